"""The teacher's features at the points of a frame: what adaptation learns from, and what an injection takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.projection import patch_index, project
from tttkd_ros.segmenter.image_features import ImageFeatures


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
        teacher: not called if no camera sees a point, or all views have their features.
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
    table = _features(frame.views, teacher).reshape(-1, teacher.dim)
    return Targets(index, chosen[index].to(table.device), table, teacher.grid)


def with_features(frame: Frame, teacher: Teacher) -> Frame:
    """Return a frame whose views have the teacher's features, so that it runs once for all that need them."""
    if all(view.features is not None for view in frame.views):
        return frame
    features = _features(frame.views, teacher).cpu().numpy()
    views = (replace(view, features=each) for view, each in zip(frame.views, features, strict=True))
    return replace(frame, views=tuple(views))


def with_features_of(frame: Frame, other: Frame) -> Frame:
    """Return a frame whose views have the features that another frame has of the same images."""
    known = {(view.name, view.stamp): view.features for view in other.views}
    views = (replace(view, features=known.get((view.name, view.stamp), view.features)) for view in frame.views)
    return replace(frame, views=tuple(views))


def image_features(frame: Frame, teacher: Teacher, seed: int = 0) -> ImageFeatures:
    """Return what a student with injection takes of a frame. seed: with the stamp, of the draws of a camera."""
    generator = torch.Generator().manual_seed((seed + frame.stamp) % 2**63)
    targets = teacher_targets(frame, teacher, generator)
    patch = torch.full((len(frame.points),), -1)
    patch[targets.index] = targets.patch.cpu()
    return ImageFeatures(patch, targets.table)


def _features(views: Sequence[View], teacher: Teacher) -> Tensor:
    """Return (views, rows, columns, dim). The teacher runs on the images that have no features yet."""
    images = [view.image for view in views if view.features is None]
    computed = teacher(images) if images else None
    if len(images) == len(views):
        return computed
    others = iter(() if computed is None else computed.cpu())
    return torch.stack([next(others) if view.features is None else torch.from_numpy(view.features) for view in views])
