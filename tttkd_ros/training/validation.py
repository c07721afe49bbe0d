"""mIoU of a student on prepared frames, shared among the processes of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tttkd_ros.evaluation.metrics import confusion
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student
from tttkd_ros.training.prepared import read_frame

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def validate(fabric: Fabric, student: Student, frames: Sequence[Path]) -> np.ndarray:
    """Count the confusion matrix (C, C + 1) of a student over frames, which all have labels. All processes call this
    together, and all get the sum."""
    classes = len(student.config.class_set)
    segmenter = Segmenter(student)
    matrix = np.zeros((classes, classes + 1), np.int64)
    for path in frames[fabric.global_rank :: fabric.world_size]:
        frame = read_frame(path)
        features = {name: values.numpy() for name, values in frame.points.features.items()}
        predicted = segmenter.segment(frame.points.xyz.numpy(), features).labels
        matrix += confusion(frame.labels.numpy(), predicted, classes)
    total = fabric.all_reduce(torch.from_numpy(matrix).to(fabric.device), reduce_op="sum")
    return total.cpu().numpy()
