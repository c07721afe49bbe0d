"""Any DINOv2 (S, B, L, g, with or without registers) as a frozen teacher of patch features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.devices import require_device
from tttkd_ros.teacher.engines import Engine, choose_engine
from tttkd_ros.teacher.features import PatchFeatures
from tttkd_ros.teacher.preprocessing import Preprocessing

MODEL_TYPES = ("dinov2", "dinov2_with_registers")


class Teacher:
    """Images of any size in, patch features out; nothing in it can be trained.

    dim: features of a patch. grid: patches (rows, cols) over the whole image. input_size: (h, w) that every image is
    resized to. name: the model's. engine: what runs it.
    """

    def __init__(self, name: str, features: PatchFeatures, preprocessing: Preprocessing, input_size: tuple[int, int],
                 engine: Engine, device: str | torch.device):
        self.name, self.input_size = name, input_size
        self.dim, self.grid, self.engine = features.dim, features.grid, engine
        self._preprocessing, self._device = preprocessing, device

    @torch.no_grad()
    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """images, each (H, W, 3) uint8 RGB -> (B, rows, cols, dim) float32, without gradient."""
        pixels = self._preprocessing(images, self.input_size, self._device)
        if not len(pixels):
            return torch.empty(0, *self.grid, self.dim, device=self._device)
        return self.engine(pixels).unflatten(1, self.grid)


def load_teacher(
    source: str | Path,
    *,
    input_size: tuple[int, int],
    engine: str = "auto",
    device: str | torch.device = "cpu",
    local_files_only: bool = True,
    threads: int = 1,
    background: bool = False,
) -> Teacher:
    """source: a directory in Hugging Face's layout (config.json, model.safetensors, preprocessor_config.json), or a
    hub name such as facebook/dinov2-small, looked up on the network only where local_files_only is False.

    input_size: (h, w) in pixels, multiples of the patch size. engine: auto, eager, openvino or tensorrt.
    threads: those that OpenVINO may use; eager follows torch.set_num_threads. background: as `choose_engine` takes it.
    Raises ValueError saying what is wrong and what to do for anything that cannot be loaded as a DINOv2.
    """
    require_device(device)
    size = (int(input_size[0]), int(input_size[1]))
    config = _config(source, local_files_only)
    _check_size(source, config, size)
    features = PatchFeatures(_model(source, config, local_files_only), size).to(device)
    preprocessing = Preprocessing.from_file(_file(source, "preprocessor_config.json", local_files_only))
    chosen = choose_engine(engine, features, size, device, threads, background=background)
    name = Path(source).resolve().name if Path(source).is_dir() else str(source)
    return Teacher(name, features, preprocessing, size, chosen, device)


def check_teacher(
    source: str | Path, *, dim: int, input_size: tuple[int, int], local_files_only: bool = True
) -> None:
    """Raise the ValueError that config.json gives rise to in `load_teacher`, or one for features not `dim` wide."""
    config = _config(source, local_files_only)
    _check_size(source, config, input_size)
    if config.hidden_size != dim:
        raise ValueError(f"teacher {str(source)!r} has {config.hidden_size} features, but the student was trained with "
                         f"one of {dim}; use that teacher")


def _file(source: str | Path, name: str, local_files_only: bool) -> str | None:
    """Path of one of a model's files, None where the model has no such file or there is no such model."""
    if Path(source).is_dir():
        path = Path(source) / name
        return str(path) if path.is_file() else None
    from transformers.utils import cached_file

    try:
        return cached_file(str(source), name, local_files_only=local_files_only,
                           _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # no such repository, no network, not a valid name
        return None


def _config(source: str | Path, local_files_only: bool) -> Any:
    from transformers import AutoConfig

    if _file(source, "config.json", local_files_only) is None:
        where = ("a directory with config.json and model.safetensors" if Path(source).exists() or local_files_only
                 else "reachable on the Hugging Face hub")
        raise ValueError(f"no teacher at {str(source)!r}: it is not {where}. Name such a directory, or fetch a hub "
                         "model once at set-up with local_files_only=False, e.g. facebook/dinov2-small")
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=local_files_only, trust_remote_code=False)
    except Exception as error:  # transformers lets out whatever a damaged file makes it raise
        raise ValueError(f"teacher {str(source)!r}: config.json cannot be read: {error}") from error
    if config.model_type not in MODEL_TYPES:
        raise ValueError(f"teacher {str(source)!r} is a {config.model_type!r} model; expected "
                         f"{' or '.join(MODEL_TYPES)}")
    _check_weights(source, config, _file(source, "model.safetensors", local_files_only))
    return config


def _check_weights(source: str | Path, config: Any, path: str | None) -> None:
    """Raise ValueError where the file at `path` cannot hold the model of this configuration.

    transformers would first build that model and fill it with random numbers, however large it is.
    """
    hidden, layers, channels, ratio = (
        config.hidden_size, config.num_hidden_layers, config.num_channels, config.mlp_ratio
    )  # fmt: skip
    patch, trained = _pair(config.patch_size, "patch_size"), _pair(config.image_size, "image_size")
    if not 0 < hidden < 2**31 or not 0 < layers < 2**31 or channels != 3 or not 0 < ratio < 2**31:
        raise ValueError(f"teacher {str(source)!r} has hidden_size {hidden}, num_hidden_layers {layers}, num_channels "
                         f"{channels} and mlp_ratio {ratio}; expected positive ones, and 3 channels")
    if path is None:
        return
    patches = (trained[0] // patch[0]) * (trained[1] // patch[1])
    # A byte a number at the least, and the names and shapes of a layer's tensors.
    needed = layers * ((4 + ratio) * hidden**2 + 1000) + hidden * (channels * patch[0] * patch[1] + patches)
    size = Path(path).stat().st_size
    if needed > size:
        raise ValueError(f"teacher {str(source)!r}: the model in config.json takes {needed:.4g} bytes or more, but "
                         f"model.safetensors has {size}: they belong to different models, or it is cut short")


def _check_size(source: str | Path, config: Any, size: tuple[int, int]) -> None:
    patch, trained = _pair(config.patch_size, "patch_size"), _pair(config.image_size, "image_size")
    if any(side <= 0 or side % step for side, step in zip(size, patch, strict=True)):
        nearest = tuple(max(round(side / step), 1) * step for side, step in zip(size, patch, strict=True))
        raise ValueError(f"teacher input size {size} (h, w) is not a multiple of the patch size {patch}; "
                         f"the nearest that is: {nearest}")
    grid = trained[0] // patch[0], trained[1] // patch[1]
    if grid[0] != grid[1]:
        raise ValueError(f"teacher {str(source)!r} has a position grid of {grid[0]}x{grid[1]} patches (image_size "
                         f"{trained}); transformers interpolates square ones only")


def _pair(value: Any, name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(side, int) and 0 < side < 2**31 for side in pair):
        raise ValueError(f"the teacher's {name} is {value!r}, expected one or two positive whole numbers")
    return pair


def _model(source: str | Path, config: Any, local_files_only: bool) -> torch.nn.Module:
    from safetensors import SafetensorError
    from transformers import AutoModel
    from transformers.utils import logging

    if local_files_only:
        logging.disable_progress_bar()  # there is nothing to wait for, and a robot's log is no terminal
    try:
        # Safetensors only: a pickle may run code of its own when it is read.
        model, info = AutoModel.from_pretrained(
            source, config=config, use_safetensors=True, local_files_only=local_files_only, trust_remote_code=False,
            dtype=torch.float32, output_loading_info=True)
    except SafetensorError as error:
        raise ValueError(f"teacher {str(source)!r}: its .safetensors file is damaged or cut short ({error}); "
                         "fetch it again") from error
    except Exception as error:  # as above: what config.json says reaches torch here, too
        raise ValueError(f"teacher {str(source)!r}: its weights cannot be loaded: {error}") from error
    # transformers fills what a file lacks with random numbers. The mask token is for pretraining alone.
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("mask_token"))
    if missing:
        raise ValueError(f"teacher {str(source)!r}: its weights lack {len(missing)} tensors, {missing[0]} among them: "
                         "config.json and model.safetensors belong to different models")
    return model
