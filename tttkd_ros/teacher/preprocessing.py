"""Camera images to the input that a teacher was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Resizing, then (pixel / 255 - mean) / std for each RGB channel."""

    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Preprocessing:
        """Take mean and std from timm's pretrained_cfg; what it does not state is ImageNet's.

        Its resize and crop are ignored: projection relies on the whole image being visible. Raises ValueError if no
        pixel values can be computed with its numbers.
        """
        mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
        try:
            preprocessing = cls(tuple(mean), tuple(std))
            extremes = preprocessing._normalise(torch.tensor([[0] * 3, [255] * 3], dtype=torch.uint8))
            usable = np.shape(mean) == np.shape(std) == (3,) and extremes.isfinite().all()
        except Exception:  # a damaged configuration may hold anything
            usable = False
        if not usable:
            raise ValueError(f"its mean is {mean!r} and its std {std!r}; expected three finite numbers, and three that "
                             "are not zero")
        return preprocessing

    def __call__(self, images: Sequence[np.ndarray], size: tuple[int, int], device: str | torch.device) -> Tensor:
        """Make a batch (B, 3, *size) float32 of B images, each (H, W, 3) uint8 RGB; size is (height, width) in pixels.

        Each whole image is resized and may lose its aspect ratio, so that a position in the image and in the patch grid
        is the same fraction of the width and the height.
        """
        if not images:
            return torch.empty(0, 3, *size, device=device)
        return self.of_resized(torch.from_numpy(np.stack([resized(image, size) for image in images])).to(device))

    def of_resized(self, images: Tensor) -> Tensor:
        """Make a batch (B, 3, H, W) float32 of images (B, H, W, 3) uint8 RGB that have the right size."""
        return self._normalise(images).permute(0, 3, 1, 2).contiguous()

    def _normalise(self, pixels: Tensor) -> Tensor:
        """Normalise uint8 pixels (..., 3)."""
        mean, std = torch.tensor(self.mean, device=pixels.device), torch.tensor(self.std, device=pixels.device)
        return torch.addcmul(-mean / std, pixels.float(), 1 / 255 / std)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (H, W, 3) uint8 RGB to (height, width) in pixels. Raises ValueError for anything else."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image of shape {image.shape} and type {image.dtype}; expected (H, W, 3) uint8 RGB")
    if image.shape[:2] == size:
        return image
    # Averaging over the area prevents aliasing when shrinking; it would show blocks when enlarging.
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
