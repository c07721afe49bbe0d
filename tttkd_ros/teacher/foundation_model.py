"""Any timm model as a frozen teacher of patch features."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from tttkd_ros.devices import require_device
from tttkd_ros.teacher.engines import Engine, choose_engine
from tttkd_ros.teacher.preprocessing import Preprocessing
from tttkd_ros.teacher.timm_model import FETCH_AGAIN, TimmConfig, read_config, read_model, total_stride

if TYPE_CHECKING:
    from tttkd_ros.teacher.features import PatchFeatures


NO_TEACHER_HEAD = ("the student was trained without a teacher, so it cannot adapt to one: name no teacher to run it "
                   "frozen, or give it a head with `tttkd train adapter-head`")


class FoundationModel:
    """Computes features of width `dim` of a `grid` (rows, columns) of patches. Images are resized to `input_size`."""

    def __init__(self, name: str, features: PatchFeatures, preprocessing: Preprocessing, input_size: tuple[int, int],
                 engine: Engine, device: str | torch.device):
        self.name, self.input_size = name, input_size
        self.dim, self.grid, self.engine = features.dim, features.grid, engine
        self._preprocessing, self._device = preprocessing, device

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return features (B, rows, columns, dim) float32 of B images, each (H, W, 3) uint8 RGB of any size."""
        pixels = self._preprocessing(images, self.input_size, self._device)
        if not len(pixels):
            return torch.empty(0, *self.grid, self.dim, device=self._device)
        return self.engine(pixels).unflatten(1, self.grid)

    @torch.no_grad()
    def of_resized(self, images: Tensor) -> Tensor:
        """Return what `__call__` does, of images (B, *input_size, 3) uint8 RGB that `resized` has made."""
        if not len(images):
            return torch.empty(0, *self.grid, self.dim, device=self._device)
        return self.engine(self._preprocessing.of_resized(images.to(self._device))).unflatten(1, self.grid)


def load_teacher(source: str | Path, *, input_size: tuple[int, int], engine: str = "auto",
                 device: str | torch.device = "cpu", threads: int = 1, background: bool = False) -> FoundationModel:
    """Load a teacher. Raises ValueError if there is none, its files are damaged, or an argument does not fit.

    Args:
        source: folder in the layout of timm's hub (config.json, model.safetensors), name of a downloaded hub model such
            as timm/vit_small_patch14_dinov2.lvd142m, with or without timm/, or efficientnet-lite0.
        input_size: (height, width) in pixels, multiples of the patch size or, for a pyramid, of its largest stride.
        engine, threads, background: see `choose_engine`.
    """
    from tttkd_ros.teacher.features import PatchFeatures

    require_device(device)
    config, empty = _find(source)
    _describe(source, empty, input_size)
    try:
        preprocessing = Preprocessing.from_config(config.preprocessing)
        features = PatchFeatures(read_model(config, empty), input_size, repr((config.architecture, config.arguments)))
    except Exception as error:  # timm, safetensors and torch document no errors for damaged files
        raise ValueError(f"teacher {str(source)!r} cannot be loaded: {_one_line(error)}; {FETCH_AGAIN}") from error
    features.to(device)
    chosen = choose_engine(engine, features, input_size, device, threads, background=background)
    return FoundationModel(_name(source), features, preprocessing, input_size, chosen, device)


def check_teacher(source: str | Path, *, dim: int, input_size: tuple[int, int]) -> None:
    """Raise ValueError if there is no such teacher, or its features are not `dim` wide. Its weights are not read.

    dim: 0 for a student without a teacher head.
    """
    if not dim:
        raise ValueError(NO_TEACHER_HEAD)
    _, empty = _find(source)
    found = _describe(source, empty, input_size).dim
    if found != dim:
        raise ValueError(f"teacher {str(source)!r} has {found} features, but the student was trained with one of "
                         f"{dim}; use that teacher")


def explain_other_name(source: str | Path, trained_with: str) -> str:
    """Say that a teacher has another name than the one that a student was trained with; empty if it has the same.

    trained_with: empty if unknown.
    """
    name = _name(source)
    if not trained_with or name.removeprefix("timm/") == trained_with.removeprefix("timm/"):
        return ""
    return (f"the student was trained with the teacher {trained_with!r}, and this one is {name!r}: with other weights "
            "the results are wrong")


def nearest_input_size(source: str | Path, size: tuple[int, int]) -> tuple[int, int]:
    """Return the input size of a teacher (height, width) that is nearest to `size`. Raises as `check_teacher`."""
    return _nearest(size, total_stride(_find(source)[1]))


def _name(source: str | Path) -> str:
    return Path(source).resolve().name if Path(source).is_dir() else str(source)


def _find(source: str | Path) -> tuple[TimmConfig, nn.Module]:
    """Return the configuration of a model, and the model on the meta device, without memory for its weights."""
    try:
        config = read_config(source)
    except Exception as error:  # a damaged file may hold anything
        raise ValueError(f"no teacher at {str(source)!r}: {_one_line(error)}") from error
    try:
        model = config.build("meta")
        if getattr(model, "dynamic_img_size", False):  # it would compute its position embedding anew for each image
            config = replace(config, arguments=config.arguments | {"dynamic_img_size": False})
            model = config.build("meta")
        total_stride(model)
    except Exception as error:  # timm documents no errors for damaged files
        raise ValueError(f"no teacher at {str(source)!r}: timm cannot build it ({_one_line(error)}); "
                         f"{FETCH_AGAIN}") from error
    return config, model


def _describe(source: str | Path, model: nn.Module, input_size: tuple[int, int]) -> PatchFeatures:
    """Return the features of a model on the meta device, whose shape is known to be right."""
    from tttkd_ros.teacher.features import PatchFeatures

    stride = total_stride(model)
    if (nearest := _nearest(input_size, stride)) != tuple(input_size):
        raise ValueError(f"teacher input size {tuple(input_size)} (height, width) is not a multiple of {stride} "
                         f"pixels, the teacher's stride; the nearest that is: {nearest}")
    try:
        features = PatchFeatures(copy.deepcopy(model), input_size)
        found = features(torch.empty(1, 3, *input_size, device="meta")).shape
        if found != (expected := (1, features.grid[0] * features.grid[1], features.dim)):
            raise ValueError(f"its features have shape {tuple(found)}, expected {expected}")
    except Exception as error:
        raise ValueError(f"{str(source)!r} cannot be a teacher: {_one_line(error)}") from error
    return features


def _nearest(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return tuple(max(round(side / stride), 1) * stride for side in size)


def _one_line(error: Exception) -> str:
    return " ".join((str(error) or repr(error)).split())[:300]
