"""Any DINOv2 (S, B, L, g, with or without registers) as a frozen teacher of patch features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tttkd_ros.devices import require_device
from tttkd_ros.teacher.engines import Engine, choose_engine
from tttkd_ros.teacher.features import PatchFeatures
from tttkd_ros.teacher.preprocessing import Preprocessing

MODEL_TYPES = ("dinov2", "dinov2_with_registers")
MAX_LAYERS = 200  # DINOv2-g has 40; transformers takes hours and all memory for a damaged number


class Dinov2Teacher:
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


def load_teacher(source: str | Path, *, input_size: tuple[int, int], engine: str = "auto",
                 device: str | torch.device = "cpu", threads: int = 1, background: bool = False) -> Dinov2Teacher:
    """Load a DINOv2. Raises ValueError if there is none, its files are damaged, or an argument does not fit.

    Args:
        source: directory in Hugging Face's layout (config.json, model.safetensors, preprocessor_config.json), or the
            name of a downloaded hub model such as facebook/dinov2-small.
        input_size: (height, width) in pixels, multiples of the patch size.
        engine, threads, background: see `choose_engine`.
    """
    require_device(device)
    config = _read_config(source, input_size)
    try:
        features = PatchFeatures(_read_model(source, config), input_size)
        preprocessing = Preprocessing.from_file(_find_file(source, "preprocessor_config.json"))
    except Exception as error:  # transformers and torch document no errors for damaged files
        raise ValueError(f"teacher {str(source)!r} cannot be loaded: {_first_line(error)}; fetch config.json and "
                         "model.safetensors of one model again") from error
    features.to(device)
    chosen = choose_engine(engine, features, input_size, device, threads, background=background)
    name = Path(source).resolve().name if Path(source).is_dir() else str(source)
    return Dinov2Teacher(name, features, preprocessing, input_size, chosen, device)


def check_teacher(source: str | Path, *, dim: int, input_size: tuple[int, int]) -> None:
    """Raise ValueError if there is no such DINOv2, or its features are not `dim` wide. Its weights are not read."""
    found = _read_config(source, input_size).hidden_size
    if found != dim:
        raise ValueError(f"teacher {str(source)!r} has {found} features, but the student was trained with one of "
                         f"{dim}; use that teacher")


def _read_config(source: str | Path, input_size: tuple[int, int]) -> Any:
    """Read config.json and check what transformers does not."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
        if config.model_type not in MODEL_TYPES:
            raise ValueError(f"it is a {config.model_type!r} model, expected {' or '.join(MODEL_TYPES)}")
        if config.num_hidden_layers > MAX_LAYERS:
            raise ValueError(f"num_hidden_layers is {config.num_hidden_layers}, expected at most {MAX_LAYERS}")
        patch = [int(side) for side in np.broadcast_to(config.patch_size, 2)]
        nearest = tuple(max(round(side / step), 1) * step for side, step in zip(input_size, patch, strict=True))
    except Exception as error:  # transformers documents no errors for damaged files
        found = _first_line(error) if Path(source).is_dir() else "there is no such directory or downloaded hub model"
        raise ValueError(f"no teacher at {str(source)!r}: {found}. Name a directory with config.json and "
                         "model.safetensors of a DINOv2, or first run `hf download facebook/dinov2-small`") from error
    if nearest != tuple(input_size):
        raise ValueError(f"teacher input size {tuple(input_size)} (height, width) is not a multiple of the patch size "
                         f"{tuple(patch)}; the nearest that is: {nearest}")
    return config


def _read_model(source: str | Path, config: Any) -> nn.Module:
    from transformers import AutoModel
    from transformers.utils import logging

    if (path := _find_file(source, "model.safetensors")) is not None:  # None for weights in several files
        with torch.device("meta"):
            numbers = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
        if numbers > Path(path).stat().st_size:  # transformers would allocate them all before it compares the shapes
            raise ValueError(f"config.json describes {numbers} numbers, more than model.safetensors has bytes")
    logging.disable_progress_bar()  # a robot's log is no terminal
    # Safetensors only: a pickle may run code of its own when it is read.
    model, info = AutoModel.from_pretrained(
        source, config=config, use_safetensors=True, local_files_only=True, trust_remote_code=False,
        dtype=torch.float32, output_loading_info=True,
    )
    # transformers fills missing tensors with random numbers. The mask token is for pretraining alone.
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("mask_token"))
    if missing:
        raise ValueError(f"its weights lack {len(missing)} tensors, {missing[0]} among them")
    return model


def _find_file(source: str | Path, name: str) -> str | None:
    from transformers.utils import cached_file

    return cached_file(str(source), name, local_files_only=True, _raise_exceptions_for_missing_entries=False)


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]
