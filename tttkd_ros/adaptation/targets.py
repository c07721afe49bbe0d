"""What the teacher says about the points of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.frame import Frame
from tttkd_ros.geometry.projection import patch_index, project


class Teacher(Protocol):
    """What adaptation needs of a teacher. dim: width of a feature. grid: rows and columns of patches."""

    dim: int
    grid: tuple[int, int]

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """(B, rows, columns, dim) float32 patch features of B images, each (H, W, 3) uint8 RGB."""


def teacher_targets(
    frame: Frame, teacher: Teacher, generator: torch.Generator, *, occlusion: bool = True
) -> tuple[Tensor, Tensor]:
    """The points that a camera sees, (M,) int64 ascending, and the feature of each one's patch, (M, teacher.dim).

    Where several cameras see a point, one of them is drawn (DITR, section 3.1). The index is on the CPU, the features
    are on the teacher's device. M is 0 for a frame without views; the teacher is not asked if no camera sees a point.
    """
    points = torch.tensor(frame.projectable)  # a copy: a bag's arrays are read-only
    chosen = torch.full((len(points),), -1)  # row of the (views x patches) table
    best = torch.full((len(points),), -1.0)
    rows, columns = teacher.grid
    for number, view in enumerate(frame.views):
        projection = project(points, view.camera, view.camera_from_lidar, occlusion=occlusion)
        patch = patch_index(projection, view.camera, teacher.grid)
        lot = torch.rand(len(points), generator=generator)
        wins = (patch >= 0) & (lot > best)
        chosen = torch.where(wins, patch + number * rows * columns, chosen)
        best = torch.where(wins, lot, best)
    index = torch.nonzero(chosen >= 0)[:, 0]
    if not len(index):
        return index, torch.empty(0, teacher.dim)
    features = teacher([view.image for view in frame.views])
    table = features.reshape(-1, teacher.dim)
    return index, table[chosen[index].to(table.device)]
