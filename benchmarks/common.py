"""Measurement, tables and the command line, as all benchmarks use them."""

from __future__ import annotations

import functools
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tttkd_ros.files import write_whole
from tttkd_ros.messages.cloud_encoding import encode_points
from tttkd_ros.subprocesses import init_pool_worker

OUTPUT = Path("bench_output")
Rows = list[dict[str, Any]]


def medians(
    contenders: Mapping[str, Callable[[int], object]], rounds: int, clock: Callable[[], float] = time.thread_time
) -> dict[str, float]:
    """Measure the median seconds of a call of each contender.

    The order is random in each round, so that disturbances of the machine affect all contenders alike.

    Args:
        contenders: functions by name. Each call gets a new number, to select its input.
        rounds: calls per contender.
        clock: CPU time of this thread by default.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order, generator = list(contenders), random.Random(0)
    for number in range(rounds):
        generator.shuffle(order)
        for place, name in enumerate(order):
            began = clock()
            contenders[name](number * len(order) + place)
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread in OpenCV and in torch."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def spinning_lidar(points: int, seed: int = 0) -> np.ndarray:
    """Return (points, 3) float32, metres, ring by ring: a scan of the ground with objects on it."""
    generator = np.random.default_rng(seed)
    rings = 64
    azimuth = np.linspace(-np.pi, np.pi, -(-points // rings), endpoint=False)
    elevation = np.radians(np.linspace(2.0, -24.8, rings))
    azimuth, elevation = (grid.ravel()[:points] for grid in np.meshgrid(azimuth, elevation))
    with np.errstate(divide="ignore"):
        ground = np.where(elevation < 0, 1.73 / np.sin(-elevation), np.inf)
    sectors = generator.gamma(2.0, 10.0, 180) + 3.0  # what stands 2 degrees wide, metres away
    standing = sectors[((azimuth + np.pi) / (2 * np.pi) * 180).astype(int)]
    ranges = np.minimum(np.minimum(ground, standing), 100.0) + generator.normal(0, 0.02, points)
    around = np.stack((np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)), 1)
    return (around * ranges[:, None]).astype(np.float32)


def message(points: np.ndarray) -> SimpleNamespace:
    """Return an object like a PointCloud2 of points (N, 3) with intensity, 16 bytes per point."""
    encoded = encode_points(points, np.zeros(len(points), np.float32))
    return SimpleNamespace(
        height=1, width=encoded.width, fields=encoded.fields, point_step=encoded.point_step, is_bigendian=False,
        row_step=len(encoded.buffer), data=encoded.buffer,
    )  # fmt: skip


def in_processes(function: Callable[..., Any], tasks: Sequence[tuple], jobs: int) -> list:
    """Call a function with each task's arguments in `jobs` processes, and show a bar. Returns the results in order."""
    with ExitStack() as stack:
        each = map
        if jobs > 1:
            each = stack.enter_context(ProcessPoolExecutor(jobs, get_context("spawn"), init_pool_worker)).map
        return list(track(each(function, *zip(*tasks, strict=True)), "drives", len(tasks)))


def resident_mib(process: int | str = "self") -> float:
    """Measure the resident memory (RSS) of a process, this one by default, in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def table(title: str, rows: Rows, columns: Mapping[str, tuple[str, str]]) -> Table:
    """Make a table. `columns` maps a heading to the key of a row and its format."""
    shown = Table(
        title=title, title_justify="left", min_width=len(title), box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for heading, (key, _) in columns.items():
        shown.add_column(heading, justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        shown.add_row(*(format(row[key], how) for key, how in columns.values()))
    return shown


def machine() -> dict[str, str]:
    """Describe the machine and the versions."""
    names = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(": ")[2] if names else platform.processor(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def write(name: str, results: Mapping[str, Rows]) -> Path:
    """Write to bench_output/<name>.json in the current folder."""
    path = OUTPUT / f"{name}.json"
    content = {"machine": machine(), **results}
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    return path


def command(name: str, description: str, run: Callable[..., Rows], show: Callable[[Rows], Table]) -> None:
    """Run one benchmark from the command line. Its options are the parameters of `run`, which raises ValueError for
    those that cannot be."""
    console = Console()

    @functools.wraps(run)
    def measured(*args, **options):
        with console.status(f"measuring: {name}"):
            return run(*args, **options)

    try:
        rows = tyro.cli(measured, prog=f"python benchmarks/{name}.py", description=description)
    except ValueError as error:
        sys.exit(f"{name}: {error}")
    console.print(show(rows))
    console.print(f"written to {write(name, {name: rows})}")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # not Linux
        return ""
