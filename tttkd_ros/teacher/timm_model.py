"""Finds, checks and reads a timm model: a folder in the layout of timm's hub, a downloaded hub model, or a package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tttkd_ros.teacher import efficientnet_lite0

EXAMPLE = "timm/vit_small_patch14_dinov2.lvd142m"
MAX_LAYERS = 200  # the largest models have 48; timm takes hours and all memory for a damaged number
FETCH_AGAIN = "fetch config.json and model.safetensors of one model again"
_DINOV2_SIZES = {384: "small", 768: "base", 1024: "large", 1536: "giant"}  # by the width of the features


@dataclass(frozen=True)
class TimmConfig:
    """How timm builds a model, and where its weights are.

    Attributes:
        architecture: name of a function of timm.
        arguments: of this function.
        settings: timm's `pretrained_cfg`, reduced to what the function depends on.
        preprocessing: mean and std of the model's images, if the configuration has them.
        weights: file.
    """

    architecture: str
    arguments: dict[str, Any]
    settings: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Path

    def build(self, device: str, tensors: dict[str, Tensor] | None = None) -> nn.Module:
        """Build the model for its own image size. tensors: its weights; random ones if there are none."""
        from tttkd_ros.teacher.timm_import import timm

        settings = self.settings if tensors is None else self.settings | {"state_dict": tensors}
        # The caller's random numbers stay the same, whatever weights are drawn before those of the file replace them.
        with torch.device(device), torch.random.fork_rng(devices=()):
            return timm.create_model(
                self.architecture, pretrained=tensors is not None, pretrained_cfg=settings, **self.arguments
            )


def read_config(source: str | Path) -> TimmConfig:
    """Find a model and read its configuration, but not its weights.

    source: a folder with config.json and model.safetensors, the name of a downloaded hub model, or efficientnet-lite0.
    Raises ValueError with the remedy if there is no such model, or its configuration is damaged.
    """
    if str(source) == efficientnet_lite0.NAME:
        return _parse(efficientnet_lite0.CONFIG, efficientnet_lite0.find_weights())
    config, weights = (_find_file(source, name) for name in ("config.json", "model.safetensors"))
    if config is None or weights is None:
        if Path(source).is_dir():
            raise ValueError(f"it has no {'config.json' if config is None else 'model.safetensors'}; {FETCH_AGAIN}")
        raise ValueError("there is no such folder or downloaded hub model; name a folder with config.json and "
                         f"model.safetensors of a timm model, or first run `hf download {_wanted(source)}`")
    try:
        content = json.loads(config.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its config.json is not a valid JSON file ({error}); {FETCH_AGAIN}") from error
    return _parse(content, weights)


def read_model(config: TimmConfig, expected: nn.Module) -> nn.Module:
    """Read a model with its weights. expected: the same model, perhaps on the meta device.

    Raises ValueError, RuntimeError or an error of safetensors if the weights are damaged or those of another model.
    """
    shapes = expected.state_dict()
    if config.weights.suffix == ".safetensors":  # any other file is the package's
        from safetensors.torch import load_file

        numbers = sum(tensor.numel() for tensor in (*expected.parameters(), *expected.buffers()))
        if numbers > config.weights.stat().st_size:  # they would all be allocated before the shapes are compared
            raise ValueError(f"config.json describes {numbers} numbers, more than model.safetensors has bytes")
        tensors = load_file(config.weights)
    else:
        tensors = efficientnet_lite0.read_weights(config.weights, shapes)
    if not tensors:  # timm would download some
        raise ValueError("model.safetensors has no tensors")
    for name in tensors.keys() & shapes.keys():  # timm would resample some of them
        if tensors[name].shape != shapes[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, but config.json describes "
                             f"{tuple(shapes[name].shape)}")
    return config.build("cpu", tensors).float()


def total_stride(model: nn.Module) -> int:
    """Return the number of pixels that the sides of an image must be multiples of."""
    return max(info["reduction"] for info in model.feature_info)


def _find_file(source: str | Path, name: str) -> Path | None:
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(_hub_name(source), name)
    except HFValidationError:  # no name of a hub model
        return None
    return Path(path) if isinstance(path, str) else None


def _hub_name(source: str | Path) -> str:
    name = str(source).removeprefix("hf-hub:")
    return name if "/" in name else f"timm/{name}"


def _wanted(source: str | Path) -> str:
    """Return the hub model that a name stands for if timm knows its architecture, else an example."""
    from tttkd_ros.teacher.timm_import import timm

    name = _hub_name(source)
    return name if timm.is_model(name.removeprefix("timm/").partition(".")[0]) else EXAMPLE


def _parse(config: Any, weights: Path) -> TimmConfig:
    """Check what timm does not: it would download weights or take hours for some configurations."""
    from tttkd_ros.teacher.timm_import import timm

    if not isinstance(config, dict):
        raise ValueError(f"its config.json holds {type(config).__name__}, expected an object; {FETCH_AGAIN}")
    if "model_type" in config and "architecture" not in config:
        raise ValueError(f"it is in transformers' layout, not in timm's; run `hf download {_equivalent(config)}`")
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise ValueError(f"timm {timm.__version__} has no architecture {architecture!r}; {FETCH_AGAIN}")
    settings, arguments = config.get("pretrained_cfg", {}), config.get("model_args", {})
    if not isinstance(settings, dict) or not isinstance(arguments, dict):
        raise ValueError(f"its pretrained_cfg or its model_args is no object; {FETCH_AGAIN}")
    for name in arguments:
        if name.startswith("pretrained") or name == "checkpoint_path":
            raise ValueError(f"its model_args have {name}, which would read other weights; {FETCH_AGAIN}")
    for name in ("depth", "depths", "layers", "stages"):
        if np.sum(arguments.get(name, 0)) > MAX_LAYERS:
            raise ValueError(f"{name} is {arguments[name]}, expected at most {MAX_LAYERS} layers; {FETCH_AGAIN}")
    classes = {"num_classes": config.get("num_classes", settings.get("num_classes", 0))}
    kept, preprocessing = (
        {name: settings[name] for name in names if settings.get(name) is not None}
        for names in (("input_size", "fixed_input_size"), ("mean", "std"))
    )
    return TimmConfig(architecture, arguments | classes, kept | classes, preprocessing, weights)


def _equivalent(config: dict[str, Any]) -> str:
    """Return timm's hub model with the weights of a DINOv2 of transformers, or an example."""
    registers = {"dinov2": "", "dinov2_with_registers": "reg4_"}.get(str(config["model_type"]))
    size = _DINOV2_SIZES.get(config.get("hidden_size"))
    return EXAMPLE if None in (registers, size) else f"timm/vit_{size}_patch14_{registers}dinov2.lvd142m"
