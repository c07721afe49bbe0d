"""Measure what a teacher knows: mIoU of a linear classifier of its features, trained in the source world.

The classifier sees the features alone, at the points that the camera sees. Its mIoU in the target world bounds what
adaptation to this teacher can gain there. Drives of other seeds than its own tell how well it does in its own world.
"""

from __future__ import annotations

from pathlib import Path

import torch
from common import Rows, command, in_processes, table
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.evaluation.metrics import class_iou, confusion, mean_iou
from tttkd_ros.paths import shipped_path
from tttkd_ros.teacher.foundation_model import load_teacher, nearest_input_size
from tttkd_ros.training.examples import INPUT_SIZE, labelled_targets
from tttkd_ros.training.source_training import class_weights

TRAINED, SOURCE, TARGET = range(40), range(60, 75), range(40, 60)  # seeds of the drives
IMAGES, POINTS = 3, 600  # of each drive, and of each image
STEPS, BATCH, LEARNING_RATE = 600, 4096, 1e-2


def run(
    quick: bool = False, teachers: tuple[Path, ...] = (Path("models/teacher"),), jobs: int = 2,
) -> Rows:
    """
    Args:
        quick: Run briefly, only to check that it works.
        teachers: Folders or names, as `--teacher` takes them.
        jobs: Processes.
    """
    return in_processes(_row, [(teacher, quick) for teacher in teachers], 1 if quick else jobs)


def show(rows: Rows) -> Table:
    columns = {"teacher": ("teacher", ""), "source": ("source", ".1f"), "target": ("target", ".1f"),
               "classes in the target": ("classes", "")}
    return table("mIoU of a linear classifier of the teacher's features, per cent", rows, columns)


def _row(teacher: Path, quick: bool) -> dict:
    torch.manual_seed(0)
    features, labels = _points("a2d2", teacher, TRAINED, quick)
    mean, deviation = features.mean(0), features.std(0)
    probe = torch.nn.Linear(features.shape[1], len(OUTDOOR))
    optimiser = torch.optim.Adam(probe.parameters(), LEARNING_RATE)
    weights, features = class_weights(labels, len(OUTDOOR)), (features - mean) / deviation
    for _ in range(STEPS):
        drawn = torch.randint(len(features), (BATCH,))
        optimiser.zero_grad()
        cross_entropy(probe(features[drawn]), labels[drawn], weights).backward()
        optimiser.step()

    def matrix(world: str, seeds: range):
        features, labels = _points(world, teacher, seeds, quick)
        with torch.no_grad():
            predicted = probe((features - mean) / deviation).argmax(1)
        return confusion(labels.byte().numpy(), predicted.byte().numpy(), len(OUTDOOR))

    target = matrix("kitti", TARGET)
    classes = ", ".join(f"{name} {100 * iou:.0f}" for name, iou in zip(OUTDOOR.names, class_iou(target), strict=True))
    return {"teacher": str(teacher), "source": mean_iou(matrix("a2d2", SOURCE)), "target": mean_iou(target),
            "classes": classes}


def _points(world: str, teacher: Path, seeds: range, quick: bool) -> tuple[Tensor, Tensor]:
    """Return features (M, D) and labels (M,) int64 of visible, labelled points."""
    source = shipped_path(str(teacher)) if str(teacher) == "models/teacher" else teacher
    model = load_teacher(source, input_size=nearest_input_size(source, INPUT_SIZE), engine="eager")
    features, labels = [], []
    for frame, targets, generator in labelled_targets(
        world, model, seeds[:2] if quick else seeds, IMAGES, seconds=3.0, title=world
    ):
        label = torch.from_numpy(frame.labels)[targets.index].long()
        labelled = torch.nonzero(label != UNLABELLED)[:, 0]
        chosen = labelled[torch.randperm(len(labelled), generator=generator)[:POINTS]]
        features.append(targets.features[chosen])
        labels.append(label[chosen])
    return torch.cat(features), torch.cat(labels)


if __name__ == "__main__":
    command("probe", __doc__, run, show)
