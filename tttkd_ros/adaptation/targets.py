"""What the teacher says about the points of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Targets:
    """index: (M,) int64 ascending, the points that a camera sees. patch: (M,) int64, row of `table` for each of them.

    table: (views x rows x columns, dim), the teacher's features. grid: rows and columns of patches of a view.
    """

    index: Tensor
    patch: Tensor
    table: Tensor
    grid: tuple[int, int]

    @property
    def features(self) -> Tensor:
        """(M, dim)"""
        return self.table[self.patch]


def teacher_targets(
    frame: Frame, teacher: Teacher, generator: torch.Generator, *, occlusion: bool = True
) -> Targets:
    """What the teacher says about a frame's points.

    Where several cameras see a point, one of them is drawn (DITR, section 3.1). The index is on the CPU, the rest on
    the teacher's device. M is 0 for a frame without views; the teacher is not asked if no camera sees a point.
    """
    points = torch.tensor(frame.projectable)  # a copy: a bag's arrays are read-only
    chosen = torch.full((len(points),), -1)  # row of the table
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
        return Targets(index, index, torch.empty(0, teacher.dim), teacher.grid)
    table = teacher([view.image for view in frame.views]).reshape(-1, teacher.dim)
    return Targets(index, chosen[index].to(table.device), table, teacher.grid)
