"""Measure the trade of stride, steps, rotations and learning rate: what is gained, and what it costs in time.

Simulated drives of the target world that no result is reported on, replayed without loss. mIoU in per cent over all
points and over those that a camera sees; the gain is over the frozen student. "worst class" is the largest loss of a
class with at least 1 % of the points. "ms per sweep" is the time of all steps on one sweep, divided by the stride.
Compare settings of equal time. The table shows only those settings that differ; the file has all of them.
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import product

import numpy as np
from common import Rows, command, in_processes, table
from rich.table import Table

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.evaluation.metrics import mean_iou, worst_class
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.evaluation.replay import RunConfig, replay
from tttkd_ros.evaluation.result import Result
from tttkd_ros.simulation.seeds import SEEDS
from tttkd_ros.simulation.shifts import shifted_frames

SEEDS_USED = tuple(SEEDS["validation"][:3])


def run(
    quick: bool = False,
    seeds: tuple[int, ...] = SEEDS_USED,
    shift: str = "kitti",
    sweeps: int = 150,
    stride: tuple[int, ...] = (TTTConfig.stride,),
    steps: tuple[int, ...] = (TTTConfig.steps,),
    rotations: tuple[int, ...] = (TTTConfig.rotations,),
    learning_rate: tuple[float, ...] = (TTTConfig.learning_rate,),
    bn_momentum: tuple[float, ...] = (TTTConfig.bn_momentum,),
    crop: tuple[float, ...] = (TTTConfig.crop,),
    guard: tuple[bool, ...] = (TTTConfig.guard,),
    jobs: int = os.cpu_count() or 1,
) -> Rows:
    """One row for each combination of the settings.

    Args:
        quick: Run briefly, only to check that it works.
        seeds: One drive each.
        shift: Of the drives, see `tttkd simulate --help`.
        sweeps: Of each drive.
        stride: Sweeps per step.
        steps: Gradient steps on a sweep.
        rotations: Of the cloud that the steps are taken on in turn.
        learning_rate: Of SGD.
        bn_momentum: Minimum momentum of BatchNorm's statistics.
        crop: Edge of the cubes around visible points, metres; 0 for whole clouds.
        guard: With and without the guard.
        jobs: Processes.
    """
    if quick:
        seeds, sweeps, jobs = seeds[:1], 10, 1
    names = ("stride", "steps", "rotations", "learning_rate", "bn_momentum", "crop", "guard")
    grid = [dict(zip(names, values, strict=True)) for values in
            product(stride, steps, rotations, learning_rate, bn_momentum, crop, guard)]
    tasks = [(shift, seed, sweeps, settings) for seed in seeds for settings in grid]  # a process keeps its drive
    results = in_processes(_replay, tasks, jobs)
    return [_row(settings, results[number :: len(grid)]) for number, settings in enumerate(grid)]


def show(rows: Rows) -> Table:
    settings = {
        "stride": ("stride", "d"), "steps": ("steps", "d"), "turns": ("rotations", "d"), "lr": ("learning_rate", "g"),
        "bn": ("bn_momentum", "g"), "crop": ("crop", "g"), "guard": ("guard", ""),
    }  # fmt: skip
    differing = {heading: column for heading, column in settings.items() if len({row[column[0]] for row in rows}) > 1}
    figures = {
        "all": ("all", ".1f"), "gain": ("gain", "+.1f"), "seen": ("seen", ".1f"), "worst class": ("worst", ""),
        "ms per\nsweep": ("ms per sweep", ".0f"),
    }  # fmt: skip
    return table("mIoU of TTT-KD-O on validation drives, per cent", rows, differing | figures)


def _replay(shift: str, seed: int, sweeps: int, settings: dict) -> tuple[Result, Result]:
    """Return the result of the frozen student, and of these settings."""
    drive, frozen = _drive(shift, seed, sweeps)
    return frozen, replay(drive, *_models(), RunConfig(config=TTTConfig(**settings)))


@lru_cache(maxsize=1)
def _models() -> tuple:
    return load_models()


@lru_cache(maxsize=1)
def _drive(shift: str, seed: int, sweeps: int) -> tuple[Drive, Result]:
    drive = list(shifted_frames(shift, seed, sweeps))
    return drive, replay(drive, _models()[0], run=RunConfig("frozen"))


def _row(settings: dict, results: list[tuple[Result, Result]]) -> dict:
    frozen, adapted = zip(*results, strict=True)
    worst, change = worst_class(*(sum(result.matrix() for result in runs) for runs in (adapted, frozen)))
    ms = 1e3 * float(np.median(np.concatenate([result.timing.steps for result in adapted])))
    everything = [[_mean(runs, visible) for visible in (None, True)] for runs in (frozen, adapted)]
    return settings | {
        "guard": "on" if settings["guard"] else "off", "all": everything[1][0],
        "gain": everything[1][0] - everything[0][0], "seen": everything[1][1],
        "worst": f"{adapted[0].class_names[worst]} {change:+.1f}",
        "ms": ms, "ms per sweep": ms / settings["stride"],
    }  # fmt: skip


def _mean(results: tuple[Result, ...], visible: bool | None) -> float:
    return float(np.mean([mean_iou(result.matrix(visible=visible)) for result in results]))


if __name__ == "__main__":
    command("trade", __doc__, run, show)
