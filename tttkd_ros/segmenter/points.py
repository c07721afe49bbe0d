"""A cloud as a student takes it: points with named features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from tttkd_ros.features import DIRECTIONS
from tttkd_ros.segmenter.image_features import ImageFeatures


@dataclass(frozen=True, eq=False)
class Points:
    """N points.

    xyz: (N, 3) float32, metres, z up. features: name -> (N, C) float32, see `tttkd_ros.features`. images: features of
    the images at the points; None without any.
    """

    xyz: Tensor
    features: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    images: ImageFeatures | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, rows: Tensor) -> Points:
        """Return some of the points. rows: a mask (N,) bool, or (M,) int64."""
        return Points(self.xyz[rows], {name: values[rows] for name, values in self.features.items()},
                      self.images and self.images[rows])

    def to(self, device: torch.device) -> Points:
        """Return the points on a device."""
        return Points(self.xyz.to(device), {name: values.to(device) for name, values in self.features.items()},
                      self.images and self.images.to(device))

    def transformed(self, matrix: Tensor) -> Points:
        """Return the points as rows times a matrix (3, 3), with the directions among the features turned likewise."""
        matrix = matrix.to(self.xyz)
        turned = {name: _turned(values, matrix) for name, values in self.features.items() if name in DIRECTIONS}
        return replace(self, xyz=self.xyz @ matrix, features={**self.features, **turned})

    def without_images(self) -> Points:
        """Return the points as if no camera saw them."""
        return replace(self, images=None)


def _turned(normals: Tensor, matrix: Tensor) -> Tensor:
    """Transform normals (N, 3) of a surface whose points are transformed by a matrix (3, 3), as rows."""
    moved = normals @ torch.linalg.inv(matrix).T
    return moved / moved.norm(dim=1, keepdim=True).clamp_(min=1e-12) * normals.norm(dim=1, keepdim=True)
