"""Camera images to the input that a teacher was trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Resizing, then (pixel * rescale - mean) / std for each RGB channel."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    rescale: float = 1 / 255

    @classmethod
    def from_file(cls, path: str | Path | None) -> Preprocessing:
        """Read a preprocessor_config.json; what it does not state, or None for the file, is ImageNet's.

        The file's resize and crop are ignored: projection relies on the whole image being visible. Raises ValueError
        if the file cannot be read, or no pixel values can be computed with its numbers.
        """
        if path is None:
            return cls()
        try:
            config = json.loads(Path(path).read_text())
            normalise = config.get("do_normalize", True)
            mean = (config.get("image_mean") or IMAGENET_MEAN) if normalise else (0.0,) * 3
            std = (config.get("image_std") or IMAGENET_STD) if normalise else (1.0,) * 3
            rescale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
            preprocessing = cls(tuple(mean), tuple(std), rescale)
            extremes = preprocessing._normalise(torch.tensor([[0] * 3, [255] * 3], dtype=torch.uint8))
            usable = np.shape(mean) == np.shape(std) == (3,) and extremes.isfinite().all()
        except Exception as error:  # a damaged file may hold anything
            raise ValueError(f"{path} cannot be read ({error!r}); fetch the file again") from error
        if not usable:
            raise ValueError(f"{path}: image_mean {mean}, image_std {std}, rescale_factor {rescale}; expected three "
                             "finite numbers, three that are not zero, and one; fetch the file again")
        return preprocessing

    def __call__(self, images: Sequence[np.ndarray], size: tuple[int, int], device: str | torch.device) -> Tensor:
        """Make a batch (B, 3, *size) float32 of B images, each (H, W, 3) uint8 RGB; size is (height, width) in pixels.

        Each whole image is resized and may lose its aspect ratio, so that a position in the image and in the patch grid
        is the same fraction of the width and the height.
        """
        if not images:
            return torch.empty(0, 3, *size, device=device)
        batch = torch.from_numpy(np.stack([_resized(image, size) for image in images])).to(device)
        return self._normalise(batch).permute(0, 3, 1, 2).contiguous()

    def _normalise(self, pixels: Tensor) -> Tensor:
        """Normalise uint8 pixels (..., 3)."""
        mean, std = torch.tensor(self.mean, device=pixels.device), torch.tensor(self.std, device=pixels.device)
        return torch.addcmul(-mean / std, pixels.float(), self.rescale / std)


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB")
    if image.shape[:2] == size:
        return image
    # Averaging over the area prevents aliasing when shrinking; it would show blocks when enlarging.
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
