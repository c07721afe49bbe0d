"""Camera corruptions like ImageNet-C's.

D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR
2019. The constants of the five severities are those of its public code (hendrycks/robustness, make_imagenet_c.py),
which were chosen for photographs of 224 x 224 pixels.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from tttkd_ros.frame import Frame
from tttkd_ros.simulation.effects import EffectContext

_PHOTONS = (60, 25, 12, 5, 3)  # count of a white pixel
_BLUR = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))  # pixels: length, standard deviation
_LIFT = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the value, 0..1
_JPEG_QUALITY = (25, 18, 15, 10, 7)


def corrupt_images(frame: Frame, context: EffectContext, kind: str, severity: int) -> Frame:
    """Corrupt every image of a frame. kind: one of `KINDS`. severity: 1 to 5."""
    if kind not in KINDS or severity not in range(1, 6):
        raise ValueError(f"corruption is {kind!r} at severity {severity!r}, expected one of {', '.join(KINDS)} at a "
                         "whole number from 1 to 5")
    corrupt = KINDS[kind]
    return replace(frame, views=tuple(
        replace(view, image=corrupt(view.image, severity - 1, context.sweep_generator)) for view in frame.views
    ))


def motion_kernel(length: int, deviation: float, angle: float) -> np.ndarray:
    """Blur kernel of a point that moves in one direction and fades as a Gaussian.

    Args:
        length: pixels.
        deviation: of the Gaussian, pixels.
        angle: radians, counter-clockwise from the right.
    Returns: (2 length + 1, 2 length + 1) float64 that sums to 1.
    """
    steps = np.arange(length + 1)
    kernel = np.zeros((2 * length + 1, 2 * length + 1))
    rows = np.rint(length - steps * np.sin(angle)).astype(int)
    columns = np.rint(length + steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows, columns), np.exp(-0.5 * (steps / deviation) ** 2))
    return kernel / kernel.sum()


def _shot_noise(image, level, generator):
    photons = _PHOTONS[level]
    return (np.clip(generator.poisson(image / 255 * photons) / photons, 0, 1) * 255).astype(np.uint8)


def _motion_blur(image, level, generator):
    kernel = motion_kernel(*_BLUR[level], np.deg2rad(generator.uniform(-45, 45)))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def _brightness(image, level, generator):
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + _LIFT[level], 0, 1)
    return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def _jpeg(image, level, generator):
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY[level]]
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
    return cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


# (H, W, 3) uint8 RGB, severity - 1, generator -> (H, W, 3) uint8 RGB.
KINDS = {"shot-noise": _shot_noise, "motion-blur": _motion_blur, "brightness": _brightness, "jpeg": _jpeg}
