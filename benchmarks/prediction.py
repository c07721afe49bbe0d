"""Compare a prediction and a training step with the time of their own sparse convolutions.

Convolutions are spconv's, with their gathering and scattering; those of a step include all passes, forward and
backward. The rest is this package's: voxels, neighbours, BatchNorm, heads, and in a step the projection, the teacher
and the guard. CPU time of one thread, medians, shipped student and teacher.

Aim: a prediction takes at most 1.5 times its convolutions' time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

from common import Rows, command, one_thread, spinning_lidar, table
from rich.table import Table

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.sparse import functional
from tttkd_ros.simulation.drive import frames

SIZES = 14_000, 114_000  # points: a simulated forward sector, and a whole sweep of KITTI's HDL-64E
FUNCTIONS = functional.SubMConvFunction, functional.SparseConvFunction, functional.SparseInverseConvFunction


def run(quick: bool = False, rounds: int = 20) -> Rows:
    """One row for each task and cloud size.

    Args:
        quick: Run briefly, only to check that it works.
        rounds: Calls of each, for the median.
    """
    rounds, sizes = (2, (1_000,)) if quick else (rounds, SIZES)
    frame = next(frames("kitti", 0, 1))
    with one_thread():
        student, teacher = load_models(engine="eager")
        segmenter, adapter = Segmenter(student), OnlineTTTKD(student, teacher)
        rows = []
        for size in sizes:
            points = spinning_lidar(size)
            sweep = replace(frame, points=points, features={}, labels=None)
            rows.append(_row("prediction", size, lambda points=points: segmenter.segment(points), rounds))
            step = TTTConfig(guard=False)
            rows.append(_row("step", size, lambda sweep=sweep, step=step: adapter.step(sweep, step), rounds))
    return rows


def show(rows: Rows) -> Table:
    return table(
        "A prediction and a step over their own convolutions; aim: a prediction at most 1.5 times",
        rows,
        {
            "": ("task", ""), "points": ("points", ",d"), "ms": ("ms", ".1f"),
            "convolutions, ms": ("convolutions_ms", ".1f"), "times": ("times", ".2f"),
        },
    )  # fmt: skip


def _row(task: str, points: int, call: Callable[[], object], rounds: int) -> dict:
    whole, inside = [], []
    with _timed() as seconds:
        for _ in range(rounds + 1):
            seconds.clear()
            began = time.thread_time()
            call()
            whole.append(time.thread_time() - began)
            inside.append(sum(seconds))
    whole, inside = whole[1:], inside[1:]  # the first warms up
    return {
        "task": task, "points": points, "ms": 1e3 * statistics.median(whole),
        "convolutions_ms": 1e3 * statistics.median(inside),
        "times": statistics.median(a / b for a, b in zip(whole, inside, strict=True)),
    }  # fmt: skip


@contextmanager
def _timed() -> Iterator[list[float]]:
    """Collect the seconds of every convolution, forward and backward, in a list."""
    seconds: list[float] = []

    def timed(function: Callable) -> staticmethod:
        def call(*arguments):
            began = time.thread_time()
            result = function(*arguments)
            seconds.append(time.thread_time() - began)
            return result

        return staticmethod(call)

    # The backward pass runs in a thread of autograd's own only on a GPU: on a CPU it is this one.
    patches = [
        patch.object(kind, name, timed(getattr(kind, name))) for kind in FUNCTIONS for name in ("forward", "backward")
    ]
    for each in patches:
        each.start()
    try:
        yield seconds
    finally:
        for each in patches:
            each.stop()


if __name__ == "__main__":
    command("prediction", __doc__, run, show)
