"""mIoU of a student on prepared frames, shared among the processes of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from tttkd_ros.evaluation.metrics import confusion
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.foundation_model import FoundationModel
from tttkd_ros.training.batches import correspondences
from tttkd_ros.training.prepared import PreparedFrame, read_frame

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def validate(fabric: Fabric, student: Student, frames: Sequence[Path], teacher: FoundationModel | None) -> np.ndarray:
    """Count the confusion matrix (C, C + 1) of a student over frames, which all have labels. All processes call this
    together, and all get the sum.

    teacher: computes the features of the frames' images for a student with injection.
    """
    classes = len(student.config.class_set)
    segmenter = Segmenter(student)
    matrix = np.zeros((classes, classes + 1), np.int64)
    for number in range(fabric.global_rank, len(frames), fabric.world_size):
        frame = read_frame(frames[number])
        features = {name: values.numpy() for name, values in frame.points.features.items()}
        images = _images(frame, teacher, number) if student.config.injection else None
        predicted = segmenter.segment(frame.points.xyz.numpy(), features, images).labels
        matrix += confusion(frame.labels.numpy(), predicted, classes)
    total = fabric.all_reduce(torch.from_numpy(matrix).to(fabric.device), reduce_op="sum")
    return total.cpu().numpy()


def _images(frame: PreparedFrame, teacher: FoundationModel, number: int) -> ImageFeatures:
    """Return the image features of a frame. number: decides which camera counts where several see a point."""
    maps = frame.maps if frame.maps is not None else teacher.of_resized(frame.images).flatten(1, 2).cpu()
    sample = correspondences(frame, maps.shape[1], np.random.default_rng(number), 0.0)
    return ImageFeatures(sample.points.images.patch, maps.flatten(0, 1).float())
