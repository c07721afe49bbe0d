"""A DINOv2 of a few thousand random weights, in the layout of timm's hub."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

PATCH = 14
TINY = dict(embed_dim=16, depth=1, num_heads=2, img_size=2 * PATCH, init_values=1.0)
SETTINGS = dict(input_size=(3, 2 * PATCH, 2 * PATCH), fixed_input_size=True, num_classes=0)


def build_tiny_teacher(architecture: str = "vit_small_patch14_dinov2", mean=None, std=None, **arguments) -> nn.Module:
    """Build a model with random weights. arguments: of timm's function, beside those of `TINY`."""
    from tttkd_ros.teacher.timm_import import timm

    numbers = {name: value for name, value in (("mean", mean), ("std", std)) if value is not None}
    return timm.create_model(architecture, pretrained_cfg=SETTINGS | numbers, **TINY | arguments).eval()


def randomise(model: nn.Module) -> nn.Module:
    """Draw positions, class and register tokens and layer scales of a size at which each of them matters."""
    for name, parameter in model.named_parameters():
        if any(kind in name for kind in ("token", "pos", "gamma")):
            torch.nn.init.normal_(parameter)
    return model.eval()


def save_tiny_teacher(folder: Path, model: nn.Module | None = None, **arguments) -> Path:
    """Write a model, or that of `build_tiny_teacher(**arguments)`, to a folder, and return the folder."""
    from tttkd_ros.teacher.timm_import import timm

    timm.models.save_for_hf(model or build_tiny_teacher(**arguments), folder, safe_serialization=True)
    return folder
