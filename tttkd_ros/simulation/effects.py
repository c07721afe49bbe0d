"""Change a simulated frame: the interface of all effects, and faults of LiDAR, camera and mounting.

The camera's corruptions are ImageNet-C's at severity 5: D. Hendrycks and T. Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019. The constants are those of its public code
(hendrycks/robustness, make_imagenet_c.py), which were chosen for photographs of 224 x 224 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tttkd_ros.frame import Frame
from tttkd_ros.simulation.sensors import Lidar


@dataclass(frozen=True, eq=False)
class EffectContext:
    """What an effect may use in addition to the frame."""

    lidar: Lidar
    depths: tuple[np.ndarray, ...]  # of each view, (H, W) float32, metres to what a pixel shows, infinity for the sky
    drive_generator: np.random.Generator  # draws the same numbers at every sweep of a drive
    sweep_generator: np.random.Generator  # draws other numbers at each sweep


Effect = Callable[[Frame, EffectContext], Frame]


def select(frame: Frame, mask: np.ndarray) -> Frame:
    """The frame with only the points in `mask` (N,) bool, in order."""
    arrays = {name: getattr(frame, name) for name in ("points", "labels", "deskewed")}
    features = {name: values[mask] for name, values in frame.features.items()}
    kept = {name: values[mask] for name, values in arrays.items() if values is not None}
    return replace(frame, features=features, **kept)


def along_rays(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Move points (N, 3) in the LiDAR frame along their rays to `ranges` (N,) metres. Returns (N, 3) float32."""
    return (points * (ranges / np.linalg.norm(points, axis=1))[:, None]).astype(np.float32)


def repaint(frame: Frame, context: EffectContext, paint: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Frame:
    """Apply `paint` to the frame's images: (H, W, 3) float64 in 0..1 and its depth to the same, clipped here."""
    depths = iter(context.depths)
    return _map_images(
        frame, lambda image: np.rint(np.clip(paint(image / 255, next(depths)), 0, 1) * 255).astype(np.uint8)
    )


def _map_images(frame: Frame, change: Callable[[np.ndarray], np.ndarray]) -> Frame:
    return replace(frame, views=tuple(replace(view, image=change(view.image)) for view in frame.views))


def thin_out_beams(frame: Frame, context: EffectContext, step: int) -> Frame:
    """Keep only the points of every `step`-th beam."""
    return select(frame, context.lidar.beams(frame.points) % step == 0)


def add_range_noise(frame: Frame, context: EffectContext, deviation: float) -> Frame:
    """Add noise to the range. deviation: metres, in addition to the sensor's own."""
    noise = context.sweep_generator.normal(0, deviation, len(frame.points))
    return replace(frame, points=along_rays(frame.points, np.linalg.norm(frame.points, axis=1) + noise))


def drop_returns(frame: Frame, context: EffectContext, share: float) -> Frame:
    """Lose a share of the returns at random, in addition to the sensor's own losses."""
    return select(frame, context.sweep_generator.random(len(frame.points)) >= share)


def miscalibrate(frame: Frame, context: EffectContext, degrees: float) -> Frame:
    """Rotate the camera about its centre in the extrinsics, by an axis that is the same for a whole drive."""
    axis = context.drive_generator.normal(size=3)
    error = np.eye(4)
    error[:3, :3], _ = cv2.Rodrigues(np.deg2rad(degrees) * axis / np.linalg.norm(axis))
    views = tuple(replace(view, camera_from_lidar=error @ view.camera_from_lidar) for view in frame.views)
    return replace(frame, views=views)


def lose_images(frame: Frame, context: EffectContext) -> Frame:
    """Lose every image, as if the cameras sent nothing."""
    return replace(frame, views=())


def cover_lenses(frame: Frame, context: EffectContext) -> Frame:
    """Show almost no light, and the sensor's noise, as if the lens of every camera were covered."""
    return _map_images(frame, lambda image: context.sweep_generator.integers(0, 12, image.shape, np.uint8))


def corrupt_images(frame: Frame, context: EffectContext, kind: str) -> Frame:
    """Corrupt every image of a frame. kind: a key of `CORRUPTIONS`."""
    return _map_images(frame, lambda image: CORRUPTIONS[kind](image, context.sweep_generator))


def motion_kernel(length: int, deviation: float, angle: float) -> np.ndarray:
    """Blur kernel of a point that moves in one direction and fades as a Gaussian.

    length and deviation are pixels, angle is radians counter-clockwise from the right. Returns (2 length + 1,
    2 length + 1) float64 that sums to 1.
    """
    steps = np.arange(length + 1)
    kernel = np.zeros((2 * length + 1, 2 * length + 1))
    rows = np.rint(length - steps * np.sin(angle)).astype(int)
    columns = np.rint(length + steps * np.cos(angle)).astype(int)
    np.add.at(kernel, (rows, columns), np.exp(-0.5 * (steps / deviation) ** 2))
    return kernel / kernel.sum()


def _shot_noise(image, generator):
    photons = 3  # count of a white pixel
    return (np.clip(generator.poisson(image / 255 * photons) / photons, 0, 1) * 255).astype(np.uint8)


def _motion_blur(image, generator):
    kernel = motion_kernel(20, 15, np.deg2rad(generator.uniform(-45, 45)))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def _brightness(image, generator):
    hsv = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.clip(hsv[..., 2] + 0.5, 0, 1)
    return (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)


def _jpeg(image, generator):
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 7])
    return cv2.cvtColor(cv2.imdecode(code, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


# (H, W, 3) uint8 RGB, generator -> (H, W, 3) uint8 RGB.
CORRUPTIONS = {"shot-noise": _shot_noise, "motion-blur": _motion_blur, "brightness": _brightness, "jpeg": _jpeg}
