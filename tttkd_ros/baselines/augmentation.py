"""Random augmentations of a cloud that keep the order of its points."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from tttkd_ros.segmenter.points import Points


class AugmentedCloud(NamedTuple):
    """An augmented cloud. A shift is the offset of its voxels, because a grid starts at its cloud's minimum: a shift of
    the points would change nothing."""

    points: Points  # in the given order
    offset: Tensor  # (3,), metres, see `Backbone.prepare`


def weak_augmentation(points: Points, generator: torch.Generator, max_offset: float) -> AugmentedCloud:
    """Mirror y at random, rotate by a multiple of 90 degrees about z, and move the voxels.

    generator: on the CPU. max_offset: metres along each axis, `Student.coarsest_cell` for all positions relative to the
    cells of all levels.
    """
    angle = torch.randint(4, (), generator=generator) * (math.pi / 2)
    return AugmentedCloud(points.transformed(_rotation(angle, generator)), _offset(max_offset, generator))


def strong_augmentation(points: Points, generator: torch.Generator, max_offset: float) -> AugmentedCloud:
    """Mirror y at random, rotate by any angle about z, scale by up to a tenth, jitter each point by 2 cm, and move the
    voxels. Takes what `weak_augmentation` does."""
    angle = torch.rand((), generator=generator) * (2 * math.pi)
    scale = 0.9 + 0.2 * torch.rand((), generator=generator)
    jitter = 0.02 * torch.randn(points.xyz.shape, generator=generator)
    moved = points.transformed(scale * _rotation(angle, generator))
    return AugmentedCloud(replace(moved, xyz=moved.xyz + jitter.to(moved.xyz)), _offset(max_offset, generator))


def _rotation(angle: Tensor, generator: torch.Generator) -> Tensor:
    """Return (3, 3), to multiply rows with: a random mirroring of y, then a rotation about z."""
    sine, cosine = angle.sin().item(), angle.cos().item()
    side = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
    return torch.tensor([[cosine, sine, 0.0], [-side * sine, side * cosine, 0.0], [0.0, 0.0, 1.0]])


def _offset(max_offset: float, generator: torch.Generator) -> Tensor:
    return max_offset * torch.rand(3, generator=generator)
