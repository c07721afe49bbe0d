"""Images as cameras give them to the input that a teacher was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LARGEST = 1e6  # of these numbers, and of one over image_std: what they are worked into stays within float32


@dataclass(frozen=True)
class Preprocessing:
    """pixel -> (pixel * rescale - mean) / std, channel by channel (RGB)."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    rescale: float = 1 / 255

    @classmethod
    def from_file(cls, path: str | Path | None) -> Preprocessing:
        """From a preprocessor_config.json; ImageNet's numbers where there is no file or it does not say.

        The file's resize and crop are not used: the whole image goes in, as projection counts on.
        """
        if path is None:
            return cls()
        try:
            config = json.loads(Path(path).read_text())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not JSON: {error}; fetch the file again") from error
        if not isinstance(config, dict):
            raise ValueError(f"{path} holds {config!r}, expected an object with image_mean and the like")
        normalise, rescale = config.get("do_normalize", True), config.get("do_rescale", True)
        mean = (config.get("image_mean") or IMAGENET_MEAN) if normalise else (0.0,) * 3
        std = (config.get("image_std") or IMAGENET_STD) if normalise else (1.0,) * 3
        factor = config.get("rescale_factor", 1 / 255) if rescale else 1.0
        sound = _are_numbers(mean, 3) and _are_numbers(std, 3) and _are_numbers([factor], 1)
        if not sound or min(map(abs, std)) < 1 / LARGEST:
            raise ValueError(f"{path}: image_mean {mean}, image_std {std}, rescale_factor {factor}; expected three "
                             f"finite numbers each, no zero in image_std, and one factor, all up to {LARGEST:g}")
        return cls(tuple(mean), tuple(std), factor)

    def __call__(self, images: Sequence[np.ndarray], size: tuple[int, int], device: str | torch.device) -> Tensor:
        """images, each (H, W, 3) uint8 RGB of any size -> (B, 3, *size) float32 on `device`.

        Each whole image is resized, its aspect ratio given up if need be, so that the fraction of the way across the
        image is the fraction of the way across the patches.
        """
        if not images:
            return torch.empty(0, 3, *size, device=device)
        batch = torch.from_numpy(np.stack([_resized(image, size) for image in images])).to(device)
        mean, std = torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)
        pixels = torch.addcmul(-mean / std, batch.float(), self.rescale / std)
        return pixels.permute(0, 3, 1, 2).contiguous()


def _are_numbers(values: Any, count: int) -> bool:
    return isinstance(values, Sequence) and len(values) == count and all(
        isinstance(value, (int, float)) and abs(value) <= LARGEST for value in values
    )  # fmt: skip


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB")
    if image.shape[:2] == size:
        return image
    # Averaging over the area keeps fine texture from aliasing when shrinking; it would show blocks when enlarging.
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
