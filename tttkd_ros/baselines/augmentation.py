"""Random augmentations of a cloud that keep the order of its points."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def weak_augmentation(points: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror y at random, rotate by a multiple of 90 degrees about z, and shift by less than a metre.

    points: (N, 3), metres, z up. generator: on the CPU. Returns (N, 3) in the same order.
    """
    angle = torch.randint(4, (), generator=generator) * (math.pi / 2)
    return points @ _rotation(angle, generator).to(points) + torch.rand(3, generator=generator).to(points)


def strong_augmentation(points: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror y at random, rotate by any angle about z, scale by up to a tenth, shift, and jitter each point by 2 cm."""
    angle = torch.rand((), generator=generator) * (2 * math.pi)
    scale = 0.9 + 0.2 * torch.rand((), generator=generator)
    jitter = 0.02 * torch.randn(points.shape, generator=generator)
    shift = torch.rand(3, generator=generator)
    return points @ (scale * _rotation(angle, generator)).to(points) + (jitter + shift).to(points)


def _rotation(angle: Tensor, generator: torch.Generator) -> Tensor:
    """Return (3, 3), to multiply rows with: a random mirroring of y, then a rotation about z."""
    sine, cosine = angle.sin().item(), angle.cos().item()
    side = 1.0 if torch.rand((), generator=generator) < 0.5 else -1.0
    return torch.tensor([[cosine, sine, 0.0], [-side * sine, side * cosine, 0.0], [0.0, 0.0, 1.0]])
