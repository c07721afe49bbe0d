"""Measure how long a training waits for its batches, and its memory with few and with many frames.

Eight sweeps of the simulator are prepared with the teacher's features, as `tttkd train student` does; links to them
stand for a larger data set. Busy is the share of the time in which the training does not wait for a batch. Memory is
that of the training and of the processes that draw batches (RSS).

Aims: busy 90 per cent, and memory within 5 per cent of that with few frames.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import Rows, command, one_thread, resident_mib, table
from lightning_fabric import Fabric
from rich.table import Table

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.datasets.source import open_source
from tttkd_ros.paths import TEACHER, shipped_path
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.teacher.foundation_model import load_teacher
from tttkd_ros.training.batches import Batches, BatchSettings
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.loop import Optimisation, train
from tttkd_ros.training.objective import LossSettings, Objective
from tttkd_ros.training.preparation import FrameTeacher, prepare
from tttkd_ros.training.prepared import FrameSettings

WARM_UP = 2  # steps that do not count


def run(quick: bool = False, steps: int = 22, batch: int = 4, frames: tuple[int, ...] = (8, 2000),
        workers: tuple[int, ...] = (0, 2)) -> Rows:
    """One row for each number of frames and of workers.

    Args:
        quick: Run briefly, only to check that it works.
        steps: Of each training, two of them to warm up.
        batch: Sweeps per step.
        frames: Numbers of prepared frames.
        workers: Numbers of processes that draw batches; 0 for none beside the training itself.
    """
    if quick:
        steps, batch, frames = 4, 1, (2, 4)
    with one_thread(), TemporaryDirectory() as folder:
        return _rows(Path(folder), "sim:a2d2:1x2" if quick else "sim:a2d2:4x2", steps, batch, frames, workers)


def _rows(folder: Path, source: str, steps: int, batch: int, frames: tuple[int, ...], workers: tuple[int, ...]) -> Rows:
    teacher = load_teacher(shipped_path(TEACHER), input_size=(140, 392), engine="eager")
    settings = FrameSettings(len(OUTDOOR), (), teacher.grid, teacher.input_size)
    cached = FrameTeacher(str(shipped_path(TEACHER)), "", "cpu")
    parts = prepare(open_source(source, OUTDOOR, purpose="examples"), folder, settings, cached, quiet=True)
    real = [path for part in parts for path in part.paths()]
    links = [folder / f"{number}.safetensors" for number in range(max(frames))]
    for number, link in enumerate(links):
        os.link(real[number % len(real)], link)
    rows = []
    for used in workers:
        for count in frames:
            torch.manual_seed(0)
            student = Student(StudentConfig(teacher_dim=teacher.dim, teacher_input=teacher.input_size))
            draws = BatchSettings(batch, 0, student.coarsest_cell, student.config.voxel_size, TrainingConfig.kd_points,
                                  teacher.grid[0] * teacher.grid[1])
            timed = _Timed(student, "joint", LossSettings())
            train(Fabric(accelerator="cpu", devices=1), timed, Batches(links[:count], draws), Optimisation(steps, 1e-3),
                  title=f"{count} frames, {used} workers", workers=used, after_step=timed.after_step)
            rows.append({"frames": count, "workers": used, **timed.figures()})
    return rows


class _Timed(Objective):
    """Notes when a step has its batch and when it ends."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.begins, self.ends, self.mib = [], [], 0.0

    def forward(self, batch):
        self.begins.append(time.perf_counter())
        return super().forward(batch)

    def after_step(self, step: int, losses: dict[str, float]) -> None:
        processes = ("self", *(child.pid for child in multiprocessing.active_children()))
        self.mib = max(self.mib, sum(map(resident_mib, processes)))
        self.ends.append(time.perf_counter())

    def figures(self) -> dict[str, float]:
        waited = [begin - end for begin, end in zip(self.begins[WARM_UP:], self.ends[WARM_UP - 1 :], strict=False)]
        worked = [end - begin for begin, end in zip(self.begins[WARM_UP:], self.ends[WARM_UP:], strict=True)]
        return {"step_ms": 1e3 * statistics.median(worked), "wait_ms": 1e3 * statistics.median(waited),
                "busy": sum(worked) / (sum(worked) + sum(waited)), "mib": self.mib}


def show(rows: Rows) -> Table:
    columns = {"frames": ("frames", ",d"), "workers": ("workers", "d"), "step, ms": ("step_ms", ".0f"),
               "wait, ms": ("wait_ms", ".1f"), "busy": ("busy", ".1%"), "memory, MiB": ("mib", ".0f")}
    return table("Loading; aims: busy 90 %, memory flat within 5 %", rows, columns)


if __name__ == "__main__":
    command("loading", __doc__, run, show)
