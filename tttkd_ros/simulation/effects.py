"""Change a simulated frame: the interface of all effects, and faults of sensors and mounting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tttkd_ros.frame import Frame
from tttkd_ros.simulation.sensors import Lidar


@dataclass(frozen=True, eq=False)
class EffectContext:
    """What an effect may use in addition to the frame.

    depth: (H, W) float32, metres from the camera to what each pixel shows, infinity for the sky. drive_generator:
    draws the same numbers at every sweep of a drive. sweep_generator: draws other numbers at each sweep.
    """

    lidar: Lidar
    depth: np.ndarray
    drive_generator: np.random.Generator
    sweep_generator: np.random.Generator


Effect = Callable[[Frame, EffectContext], Frame]


def select(frame: Frame, mask: np.ndarray) -> Frame:
    """The frame with only the points in `mask` (N,) bool, in order."""
    arrays = {name: getattr(frame, name) for name in ("points", "intensity", "labels", "times", "deskewed")}
    return replace(frame, **{name: values[mask] for name, values in arrays.items() if values is not None})


def along_rays(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Move points (N, 3) in the LiDAR frame along their rays to `ranges` (N,) metres. Returns (N, 3) float32."""
    return (points * (ranges / np.linalg.norm(points, axis=1))[:, None]).astype(np.float32)


def repaint(frame: Frame, paint: Callable[[np.ndarray], np.ndarray]) -> Frame:
    """Apply `paint` to the frame's images: (H, W, 3) float64 in 0..1 to the same, clipped here."""
    return replace(frame, views=tuple(
        replace(view, image=np.rint(np.clip(paint(view.image / 255), 0, 1) * 255).astype(np.uint8))
        for view in frame.views
    ))


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
