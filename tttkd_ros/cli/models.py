"""`tttkd models`: what each network costs on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table


def models(
    *, backbone: tuple[str, ...] = (), options: tuple[str, ...] = (),
    features: tuple[Literal["intensity", "normal", "position"], ...] = (), voxel_size: float = 0.1,
    teacher: Path | None = None, engine: Literal["auto", "eager", "openvino", "tensorrt"] = "eager",
    device: str = "auto", runs: int = 5, threads: int = 1,
) -> None:
    """List the backbones and a teacher with their parameters, and the time of a prediction and of a step.

    The times are medians on one simulated sweep of KITTI's sensor, about 14,000 points before the camera. The backbones
    have random weights and, unless --options are given, their default options. A step is one gradient step on the
    default crop, without the teacher's time.

    Example: `tttkd models --backbone pne --options widths=[16,32,48,64,80] head=32`.

    Args:
        backbone: names of those to measure, all by default.
        options: of the one backbone that is named, as in `tttkd train student --help`.
        features: of each point, that the backbones take.
        voxel_size: metres.
        teacher: its directory, the shipped one by default.
        engine: runs the teacher.
        device: auto, cpu, cuda, cuda:0, ...
        runs: of each measurement, for the median. None begins after five seconds of them.
        threads: CPU threads.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from tttkd_ros.devices import resolve_device
    from tttkd_ros.evaluation.model_costs import INPUT_SIZE, backbone_costs, teacher_costs
    from tttkd_ros.paths import TEACHER, shipped_path
    from tttkd_ros.segmenter import backbones
    from tttkd_ros.simulation.drive import frames

    if runs < 1 or threads < 1:
        raise ValueError(f"runs is {runs} and threads is {threads}, expected at least 1")
    if options and len(backbone) != 1:
        raise ValueError(f"options are given for {len(backbone)} backbones: name one with --backbone")
    given = backbones.parse_options(options)
    chosen = {name: backbones.complete(name, given) for name in backbone or backbones.names()}
    torch.set_num_threads(threads)
    device = resolve_device(device)
    (frame,) = frames("kitti", 0, 1)
    students = _table(f"{len(frame.points):,} points, {device}", ("backbone", "options"),
                      ("parameters, M", "prediction, s", "step, s"))
    teachers = _table(f"an image of {INPUT_SIZE[0]} x {INPUT_SIZE[1]}, {device}", ("teacher", "engine"),
                      ("features", "parameters, M", "image, s"))
    with Progress() as bar:
        task = bar.add_task("measuring", total=len(chosen) + 1)
        for name, own in chosen.items():
            bar.update(task, description=f"measuring {name}")
            costs = backbone_costs(name, own, features, frame, voxel_size=voxel_size, device=device, runs=runs)
            students.add_row(name, _shown(costs.options), f"{costs.parameters / 1e6:.2f}",
                             f"{costs.prediction_seconds:.3f}", f"{costs.step_seconds:.3f}")
            bar.advance(task)
        bar.update(task, description="measuring the teacher")
        costs = teacher_costs(teacher or shipped_path(TEACHER), frame, engine=engine, device=device, runs=runs)
        teachers.add_row(costs.name, costs.engine, str(costs.dim), f"{costs.parameters / 1e6:.2f}",
                         f"{costs.image_seconds:.3f}")
        bar.advance(task)
    for table in (students, teachers):
        Console().print(table)


def _table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in texts:
        table.add_column(heading, overflow="fold")
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _shown(options: Mapping[str, object]) -> str:
    """Return options in the form that --options takes."""
    texts = {name: str(list(value) if isinstance(value, tuple) else value) for name, value in options.items()}
    return " ".join(f"{name}={text.replace(' ', '')}" for name, text in texts.items())
