"""Measure what a teacher knows: mIoU of a linear classifier of its features, trained in the source world.

The classifier sees the features alone, at the points that the camera sees. Its mIoU in the target world bounds what
adaptation to this teacher can gain there. Drives of other seeds than its own tell how well it does in its own world.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import torch
from common import Rows, command, in_processes, table
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.evaluation.metrics import class_iou, confusion, mean_iou
from tttkd_ros.paths import TEACHER, resolve_teacher
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.teacher.foundation_model import load_teacher, nearest_input_size
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.image_head_training import labelled_features
from tttkd_ros.training.losses import class_weights
from tttkd_ros.training.prepared import FrameSettings, prepare_frame, with_maps

TRAINED, SOURCE, TARGET = range(40), range(60, 75), range(40, 60)  # seeds of the drives
IMAGES, POINTS = 3, 600  # of each drive, and of each image
STEPS, BATCH, LEARNING_RATE = 600, 4096, 1e-2


def run(quick: bool = False, teachers: tuple[str, ...] = (TEACHER,), jobs: int = 2) -> Rows:
    """
    Args:
        quick: Run briefly, only to check that it works.
        teachers: Folders or names, as the node's parameter takes them.
        jobs: Processes.
    """
    return in_processes(_row, [(teacher, quick) for teacher in teachers], 1 if quick else jobs)


def show(rows: Rows) -> Table:
    columns = {"teacher": ("teacher", ""), "source": ("source", ".1f"), "target": ("target", ".1f"),
               "classes in the target": ("classes", "")}
    return table("mIoU of a linear classifier of the teacher's features, per cent", rows, columns)


def _row(name: str, quick: bool) -> dict:
    torch.manual_seed(0)
    source = resolve_teacher(name)
    teacher = load_teacher(source, input_size=nearest_input_size(source, TrainingConfig.teacher_input), engine="eager")
    settings = FrameSettings(len(OUTDOOR), (), teacher.grid, teacher.input_size)

    def points(world: str, seeds: range) -> tuple[Tensor, Tensor]:
        drives = (frames(world, seed, IMAGES, DriveProfile(period=3.0)) for seed in (seeds[:2] if quick else seeds))
        prepared = (with_maps(prepare_frame(frame, settings), teacher) for frame in chain.from_iterable(drives))
        drawn = labelled_features(prepared, POINTS, seeds.start)
        features, labels = zip(*drawn, strict=True)
        return torch.cat(features), torch.cat(labels)

    features, labels = points("a2d2", TRAINED)
    mean, deviation = features.mean(0), features.std(0)
    probe = torch.nn.Linear(teacher.dim, len(OUTDOOR))
    optimiser = torch.optim.Adam(probe.parameters(), LEARNING_RATE)
    weights, features = class_weights(torch.bincount(labels, minlength=len(OUTDOOR))), (features - mean) / deviation
    for _ in range(STEPS):
        drawn = torch.randint(len(features), (BATCH,))
        optimiser.zero_grad()
        cross_entropy(probe(features[drawn]), labels[drawn], weights).backward()
        optimiser.step()

    @torch.no_grad()
    def matrix(world: str, seeds: range) -> np.ndarray:
        features, labels = points(world, seeds)
        predicted = probe((features - mean) / deviation).argmax(1)
        return confusion(labels.byte().numpy(), predicted.byte().numpy(), len(OUTDOOR))

    target = matrix("kitti", TARGET)
    classes = ", ".join(f"{name} {100 * iou:.0f}" for name, iou in zip(OUTDOOR.names, class_iou(target), strict=True))
    return {"teacher": name, "source": mean_iou(matrix("a2d2", SOURCE)), "target": mean_iou(target), "classes": classes}


if __name__ == "__main__":
    command("probe", __doc__, run, show)
