"""Measure the benefit of the guard: mIoU on drives with hostile cameras for a third, with and without the guard.

Simulated drives of the target world, replayed without loss. Each figure is the difference to the frozen student on the
same sweeps, in mIoU points. A student with injection (`--model`) is compared with itself, frozen and without images.
The cameras are hostile in the middle third, after good sweeps, or in the first third, before the guard has a history.
"worst window" is the worst 50 sweeps of any drive. "hostile", "after" and "rest" are means over the drives of the
hostile third, the 50 sweeps after it, and the remaining sweeps.

Aim: with the guard, no window is more than 1 point below the frozen student, and there is a gain within 50 sweeps after
the hostile third.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from common import Rows, command, in_processes, table
from hostile import KINDS, Hostile
from rich.table import Table

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.evaluation.metrics import mean_iou, windowed_mean_iou
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.evaluation.replay import NO_IMAGE, RunConfig, replay
from tttkd_ros.segmenter.student import Student
from tttkd_ros.simulation.drive import frames
from tttkd_ros.simulation.seeds import SEEDS
from tttkd_ros.teacher.foundation_model import FoundationModel

WINDOW = 50  # sweeps
WHEN = {"middle": 1, "start": 0}  # thirds of the drive before the cameras turn hostile


def run(
    quick: bool = False,
    seeds: tuple[int, ...] = tuple(SEEDS["guard benchmark"]),
    sweeps: int = 300,
    stride: int = TTTConfig.stride,
    kinds: tuple[str, ...] = tuple(KINDS),
    unguarded: bool = True,
    model: Path | None = None,
    jobs: int = os.cpu_count() or 1,
) -> Rows:
    """One row for each kind of hostility, for when it comes, and for with and without the guard.

    Args:
        quick: Run briefly, only to check that it works.
        seeds: One drive each.
        sweeps: Of each drive.
        stride: Sweeps per step.
        kinds: Of hostility.
        unguarded: Also without the guard.
        model: Student checkpoint, the shipped one by default.
        jobs: Processes.
    """
    if quick:
        seeds, sweeps, kinds, jobs = seeds[:1], 4 * WINDOW, kinds[:1], 1
    if sweeps <= 3 * WINDOW:
        raise ValueError(f"sweeps is {sweeps}, expected more than {3 * WINDOW}: none would remain after the hostile "
                         f"third and the {WINDOW} that follow it")
    guards = (True, False) if unguarded else (True,)
    cases = [("none", "middle"), *product(kinds, WHEN)]
    # A seed's tasks come one after the other, so that a process has its drive at hand.
    tasks = [_Task(*case, guard, seed, sweeps, stride, model) for seed in seeds for case in cases for guard in guards]
    figures = in_processes(_figures, [(task,) for task in tasks], jobs)
    found = dict(zip(tasks, figures, strict=True))
    return list(_rows(found))


def show(rows: Rows) -> Table:
    columns = {
        "hostile": ("kind", ""), "when": ("when", ""), "guard": ("guard", ""), "worst window": ("worst", "+.1f"),
        "hostile third": ("hostile", "+.1f"), "50 after": ("after", "+.1f"), "rest": ("rest", "+.1f"),
        "taken": ("taken", ".0%"),
    }  # fmt: skip
    return table("mIoU over the frozen student's, points; aim: no window below -1.0 with the guard", rows, columns)


@dataclass(frozen=True)
class _Task:
    kind: str
    when: str
    guard: bool
    seed: int
    sweeps: int
    stride: int
    model: Path | None


def _figures(task: _Task) -> dict[str, float]:
    """Return the differences to the frozen student on one drive."""
    student, teacher = _models(task.model)
    drive, frozen = _drive(task.seed, task.sweeps, task.model)
    third = task.sweeps // 3
    first = WHEN[task.when] * third
    if task.kind != "none":
        drive = Hostile(drive, task.kind, first, first + third)
    config = TTTConfig(stride=task.stride, guard=task.guard)
    result = replay(drive, student, teacher, RunConfig(config=config, injects=bool(student.config.injection)))
    adapted = result.matrices.sum(1)

    def gain(start: int, end: int) -> float:
        return mean_iou(adapted[start:end].sum(0)) - mean_iou(frozen[start:end].sum(0))

    windows = windowed_mean_iou(adapted, WINDOW) - windowed_mean_iou(frozen, WINDOW)
    turn = first + third
    return {
        "worst": windows[WINDOW - 1 :].min(), "hostile": gain(first, turn), "after": gain(turn, turn + WINDOW),
        "rest": gain(turn + WINDOW, task.sweeps), "taken": result.steps_accepted / result.steps_tried,
    }  # fmt: skip


@lru_cache(maxsize=1)
def _models(model: Path | None) -> tuple[Student, FoundationModel]:
    return load_models(model)


@lru_cache(maxsize=1)
def _drive(seed: int, sweeps: int, model: Path | None) -> tuple[Drive, np.ndarray]:
    """Return a drive and the frozen student's matrices, (sweeps, classes, classes + 1)."""
    drive = list(frames("kitti", seed, sweeps))
    student, teacher = _models(model)
    injects = bool(student.config.injection)
    run = RunConfig("frozen", injects=injects, control=NO_IMAGE if injects else None)
    return drive, replay(drive, student, teacher, run).matrices.sum(1)


def _rows(found: dict[_Task, dict[str, float]]) -> Iterator[dict]:
    groups: dict[tuple, list[dict[str, float]]] = {}
    for task, figures in found.items():
        groups.setdefault((task.kind, task.when, task.guard), []).append(figures)
    for (kind, when, guard), drives in groups.items():
        means = {name: float(np.mean([drive[name] for drive in drives])) for name in drives[0]}
        worst = min(drive["worst"] for drive in drives)
        yield {"kind": kind, "when": when, "guard": "on" if guard else "off"} | means | {"worst": worst}


if __name__ == "__main__":
    command("guard", __doc__, run, show)
