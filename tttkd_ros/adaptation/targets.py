"""The teacher's features at the points of a frame."""

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
    """A frozen 2D foundation model.

    Attributes:
        dim: width of a feature.
        grid: rows and columns of the patches of an image.
    """

    dim: int
    grid: tuple[int, int]

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return (B, rows, columns, dim) float32 patch features of B images, each (H, W, 3) uint8 RGB."""


@dataclass(frozen=True, eq=False)
class Targets:
    """The M points of a frame that a camera sees, and their features.

    Args:
        index: (M,) int64, ascending, which of the frame's points; on the CPU.
        patch: (M,) int64, the row of `table` for each of them.
        table: (views * rows * columns, dim), the teacher's features.
        grid: rows and columns of the patches of a view.
    """

    index: Tensor
    patch: Tensor
    table: Tensor
    grid: tuple[int, int]

    @property
    def features(self) -> Tensor:
        """(M, dim), the feature of each point."""
        return self.table[self.patch]


def teacher_targets(
    frame: Frame, teacher: Teacher, generator: torch.Generator, *, occlusion: bool = True
) -> Targets:
    """Project the points of a frame on the teacher's patches.

    If several cameras see a point, one of them is drawn at random (DITR, arXiv 2503.18944, section 3.1).

    Args:
        frame: with or without views.
        teacher: not called if no camera sees a point.
        generator: of the draws.
        occlusion: leave out points that others hide.
    """
    points = torch.tensor(frame.projectable)  # a copy: the arrays of a bag are read-only
    rows, columns = teacher.grid
    chosen = torch.full((len(points),), -1)  # row of the table
    highest = torch.full((len(points),), -1.0)
    for number, view in enumerate(frame.views):
        projection = project(points, view.camera, view.camera_from_lidar, occlusion=occlusion)
        patch = patch_index(projection, view.camera, teacher.grid)
        priority = torch.rand(len(points), generator=generator)
        wins = (patch >= 0) & (priority > highest)
        chosen = torch.where(wins, patch + number * rows * columns, chosen)
        highest = torch.where(wins, priority, highest)
    index = torch.nonzero(chosen >= 0)[:, 0]
    if not len(index):
        return Targets(index, index, torch.empty(0, teacher.dim), teacher.grid)
    table = teacher([view.image for view in frame.views]).reshape(-1, teacher.dim)
    return Targets(index, chosen[index].to(table.device), table, teacher.grid)
