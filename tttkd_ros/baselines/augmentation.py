"""Random augmentations of a cloud that keep the order of its points."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class AugmentedCloud(NamedTuple):
    """An augmented cloud. A shift is the offset of its voxels, because a grid starts at its cloud's minimum: a shift of
    the points would change nothing."""

    points: Tensor  # (N, 3), metres, in the given order
    offset: Tensor  # (3,), metres from 0, see `voxelise`


def weak_augmentation(points: Tensor, generator: torch.Generator, max_offset: float) -> AugmentedCloud:
    """Mirror y at random, rotate by a multiple of 90 degrees about z, and move the voxels.

    points: (N, 3), metres, z up. generator: on the CPU. max_offset: metres along each axis, `deepest_voxel` for all
    positions relative to the voxels of all levels.
    """
    angle = torch.randint(4, (), generator=generator) * (math.pi / 2)
    return AugmentedCloud(points @ _rotation(angle, generator).to(points), _offset(max_offset, generator))


def strong_augmentation(points: Tensor, generator: torch.Generator, max_offset: float) -> AugmentedCloud:
    """Mirror y at random, rotate by any angle about z, scale by up to a tenth, jitter each point by 2 cm, and move the
    voxels. Takes what `weak_augmentation` does."""
    angle = torch.rand((), generator=generator) * (2 * math.pi)
    scale = 0.9 + 0.2 * torch.rand((), generator=generator)
    jitter = 0.02 * torch.randn(points.shape, generator=generator)
    moved = points @ (scale * _rotation(angle, generator)).to(points) + jitter.to(points)
    return AugmentedCloud(moved, _offset(max_offset, generator))


def _rotation(angle: Tensor, generator: torch.Generator) -> Tensor:
    """Return (3, 3), to multiply rows with: a random mirroring of y, then a rotation about z."""
    sine, cosine = angle.sin().item(), angle.cos().item()
    side = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
    return torch.tensor([[cosine, sine, 0.0], [-side * sine, side * cosine, 0.0], [0.0, 0.0, 1.0]])


def _offset(max_offset: float, generator: torch.Generator) -> Tensor:
    return max_offset * torch.rand(3, generator=generator)
