"""Measure the cost of a stop: a robot that keeps learning from one scene overfits to it.

Simulated drives of 20 seconds with a stop after ten seconds, while the traffic moves on. Figures are differences in
mIoU points to the frozen student, mean over the drives: over the last ten seconds of the stop, the first five and the
last five seconds after it, and the same seconds of the drive without a stop. worst is the lowest window of 50 sweeps,
taken the share of due steps that were taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
from common import Rows, command, in_processes, table
from rich.table import Table

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.evaluation.metrics import mean_iou, windowed_mean_iou
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.evaluation.replay import RunConfig, replay
from tttkd_ros.evaluation.result import Result
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.simulation.seeds import SEEDS

RATE = 10  # Hz, of the simulated LiDAR
LEG = 100  # sweeps before the stop, and after it
HALF = LEG // 2


def run(
    quick: bool = False,
    seeds: tuple[int, ...] = tuple(SEEDS["parked benchmark"]),
    minutes: tuple[float, ...] = (2.0,),
    stride: int = 5,
    scene_steps: tuple[int, ...] = (TTTConfig.scene_steps, 1_000_000),
    jobs: int = 2,
) -> Rows:
    """
    Args:
        quick: Run briefly, only to check that it works.
        seeds: One drive each.
        minutes: Lengths of the stop.
        stride: Sweeps per step.
        scene_steps: Maximum steps on one scene; a million means no limit.
        jobs: Processes.
    """
    if quick:
        seeds, minutes, jobs = seeds[:1], (0.2,), 1
    tasks = list(product(minutes, seeds, (stride,), (scene_steps,)))
    figures = in_processes(_figures, tasks, jobs)
    return list(_rows(minutes, seeds, scene_steps, figures))


def show(rows: Rows) -> Table:
    columns = {
        "minutes": ("minutes", "g"), "scene_steps": ("scene_steps", ",d"),
        "stop's end": ("standing", "+.1f"), "5 s after": ("after", "+.1f"),
        "then": ("then", "+.1f"), "no stop: 5 s": ("after, no stop", "+.1f"), "then ": ("then, no stop", "+.1f"),
        "worst": ("worst", "+.1f"), "taken": ("taken", ".0%"),
    }  # fmt: skip
    return table("mIoU over the frozen student's, points", rows, columns)


def _figures(minutes: float, seed: int, stride: int, scene_steps: tuple[int, ...]) -> list[dict[str, float]]:
    """Return the figures of one drive for each of `scene_steps`."""
    student, teacher = load_models()
    stopped = round(minutes * 60 * RATE)
    drive = list(frames("kitti", seed, 2 * LEG + stopped, DriveProfile(stop=(LEG / RATE, (LEG + stopped) / RATE))))
    frozen = replay(drive, student, run=RunConfig("frozen")).matrices.sum(1)
    methods = [RunConfig(config=TTTConfig(stride=stride, scene_steps=steps)) for steps in scene_steps]
    results = [replay(drive, student, teacher, method) for method in methods]
    moving = np.r_[:LEG, LEG + stopped : len(drive)]
    never = replay([drive[number] for number in moving], student, teacher, methods[0]).matrices.sum(1)
    on = LEG + stopped

    def gain(ours: np.ndarray, theirs: np.ndarray, begin: int, end: int) -> float:
        return mean_iou(ours[begin:end].sum(0)) - mean_iou(theirs[begin:end].sum(0))

    def figures(result: Result) -> dict[str, float]:
        adapted = result.matrices.sum(1)
        windows = windowed_mean_iou(adapted, HALF) - windowed_mean_iou(frozen, HALF)
        return {
            "standing": gain(adapted, frozen, max(LEG, on - LEG), on),
            "after": gain(adapted, frozen, on, on + HALF), "then": gain(adapted, frozen, on + HALF, len(drive)),
            "after, no stop": gain(never, frozen[moving], LEG, LEG + HALF),
            "then, no stop": gain(never, frozen[moving], LEG + HALF, 2 * LEG),
            "worst": windows[HALF - 1 :].min(), "taken": result.steps_accepted / result.steps_tried,
        }  # fmt: skip

    return [figures(result) for result in results]


def _rows(
    minutes: tuple[float, ...], seeds: tuple[int, ...], scene_steps: tuple[int, ...], figures: list[list[dict]]
) -> Iterator[dict]:
    for number, each in enumerate(minutes):
        of_drives = figures[number * len(seeds) : (number + 1) * len(seeds)]
        for steps, drives in zip(scene_steps, zip(*of_drives, strict=True), strict=True):
            means = {name: float(np.mean([drive[name] for drive in drives])) for name in drives[0]}
            worst = float(min(drive["worst"] for drive in drives))
            yield {"minutes": each, "scene_steps": steps} | means | {"worst": worst}


if __name__ == "__main__":
    command("parked", __doc__, run, show)
