"""Random views of a cloud, point for point: what is seen at a point in one view can be compared with the others."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def weak(points: Tensor, random: torch.Generator) -> Tensor:
    """(N, 3): mirrored or not, turned by a multiple of 90 degrees about the vertical, moved by less than a metre."""
    turn = torch.randint(4, (), generator=random) * (math.pi / 2)
    return points @ _turned(turn, random).to(points) + torch.rand(3, generator=random).to(points)


def strong(points: Tensor, random: torch.Generator) -> Tensor:
    """(N, 3): mirrored or not, turned by any angle, up to a tenth larger or smaller, every point jittered (2 cm)."""
    turn = torch.rand((), generator=random) * (2 * math.pi)
    scale = 0.9 + 0.2 * torch.rand((), generator=random)
    jitter = 0.02 * torch.randn(points.shape, generator=random)
    move = torch.rand(3, generator=random)
    return points @ (scale * _turned(turn, random)).to(points) + (jitter + move).to(points)


def _turned(angle: Tensor, random: torch.Generator) -> Tensor:
    """(3, 3): a turn about the vertical, after y was mirrored or not."""
    sine, cosine = angle.sin().item(), angle.cos().item()
    side = 1.0 if torch.rand((), generator=random) < 0.5 else -1.0
    return torch.tensor([[cosine, sine, 0.0], [-side * sine, side * cosine, 0.0], [0.0, 0.0, 1.0]])
