"""A timm model as one function of the input: pixels of a fixed size to patch features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tttkd_ros.teacher.timm_import import timm

PYRAMID = (8, 16, 32)  # strides in pixels


class PatchFeatures(nn.Module):
    """The features of a timm model's last layer after its final norm, frozen. It is the engine `eager`.

    The class token and the registers are left out. If the model's layers have several strides, the features of strides
    8, 16 and 32 are enlarged to the grid of stride 8 and concatenated. The position embedding is resampled once, so a
    compiler of this module meets a constant. Only SAM 2 resamples its own in each call, from parameters alone.

    model: built for its own image size; it is changed. input_size: (height, width) in pixels, multiples of
    `total_stride(model)`. config: identifies the model together with its weights. Raises ValueError if the model has no
    such features.
    """

    name, cache_path = "eager", None

    def __init__(self, model: nn.Module, input_size: tuple[int, int], config: str = ""):
        super().__init__()
        levels = {info["reduction"]: index for index, info in enumerate(model.feature_info)}  # stride -> last layer
        strides = tuple(levels) if len(levels) == 1 else PYRAMID
        if missing := set(strides) - set(levels):
            raise ValueError(f"it has no features of stride {min(missing)}, only of {', '.join(map(str, levels))}")
        self._layers = [levels[stride] for stride in strides]
        self._options = {"norm": True} if len(levels) == 1 else {}  # the layers of a pyramid share no norm
        self.grid = (input_size[0] // strides[0], input_size[1] // strides[0])
        width = "num_chs_norm" if self._options else "num_chs"
        infos = [model.feature_info[layer] for layer in self._layers]
        self.dim = sum(info.get(width, info["num_chs"]) for info in infos)
        self.config = config
        self.model = model
        with torch.no_grad():
            _resolve_position(model, input_size, self.grid)
        self.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (B, rows * cols, dim) of normalised pixels (B, 3, height, width)."""
        finest, *coarser = self.model.forward_intermediates(
            pixels, indices=self._layers, intermediates_only=True, **self._options
        )
        enlarged = [interpolate(level, self.grid, mode="bilinear", align_corners=False) for level in coarser]
        return torch.cat([finest, *enlarged], 1).flatten(2).transpose(1, 2)


class _AddPosition(nn.Module):
    def __init__(self, position: Tensor):
        super().__init__()
        self.register_buffer("position", position)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.position


def _resolve_position(model: nn.Module, input_size: tuple[int, int], grid: tuple[int, int]) -> None:
    if hasattr(model, "set_input_size"):
        model.set_input_size(input_size)
    elif isinstance(model, timm.models.vision_transformer_sam.VisionTransformerSAM) and model.pos_embed is not None:
        # It would resample the position in each call. Its dropout has no effect here, and stands where the sum was.
        model.pos_drop = _AddPosition(timm.layers.resample_abs_pos_embed_nhwc(model.pos_embed, grid).clone())
        model.pos_embed = None
