"""A cloud as a student takes it: points with named features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from tttkd_ros.features import DIRECTIONS


@dataclass(frozen=True, eq=False)
class Points:
    """N points.

    xyz: (N, 3) float32, metres, z up. features: name -> (N, C) float32, see `tttkd_ros.features`.
    """

    xyz: Tensor
    features: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, rows: Tensor) -> Points:
        """Return some of the points. rows: a mask (N,) bool, or (M,) int64."""
        return Points(self.xyz[rows], {name: values[rows] for name, values in self.features.items()})

    def to(self, device: torch.device) -> Points:
        """Return the points on a device."""
        return Points(self.xyz.to(device), {name: values.to(device) for name, values in self.features.items()})

    def transformed(self, matrix: Tensor) -> Points:
        """Return the points as rows times a matrix (3, 3), with the directions among the features turned likewise."""
        matrix = matrix.to(self.xyz)
        turned = {name: _turned(values, matrix) for name, values in self.features.items() if name in DIRECTIONS}
        return Points(self.xyz @ matrix, {**self.features, **turned})


def _turned(normals: Tensor, matrix: Tensor) -> Tensor:
    """Transform normals (N, 3) of a surface whose points are transformed by a matrix (3, 3), as rows."""
    moved = normals @ torch.linalg.inv(matrix).T
    return moved / moved.norm(dim=1, keepdim=True).clamp_(min=1e-12) * normals.norm(dim=1, keepdim=True)
