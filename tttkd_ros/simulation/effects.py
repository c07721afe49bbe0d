"""What can be done to a simulated frame after the fact: the interface, and what is wrong with sensors and mounting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np

from tttkd_ros.frame import Frame
from tttkd_ros.simulation.sensors import Lidar


@dataclass(frozen=True, eq=False)
class Moment:
    """What an effect may know beside the frame.

    depth: (H, W) float32, metres from the camera to what each pixel shows, infinity for the sky. of_drive: draws the
    same numbers at every sweep of a drive; of_sweep: this sweep's own.
    """

    lidar: Lidar
    depth: np.ndarray
    of_drive: np.random.Generator
    of_sweep: np.random.Generator


class Effect(Protocol):
    def apply(self, frame: Frame, moment: Moment) -> Frame: ...


def select(frame: Frame, kept: np.ndarray) -> Frame:
    """The frame with those of its points alone that are `kept` (N,) bool, in their order."""
    names = ("points", "intensity", "labels", "times", "deskewed")
    return replace(frame, **{
        name: getattr(frame, name)[kept] for name in names if getattr(frame, name) is not None
    })


def along_rays(points: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """(N, 3) float32: points (N, 3) in the LiDAR frame, moved along their rays to `ranges` (N,) metres."""
    return (points * (ranges / np.linalg.norm(points, axis=1))[:, None]).astype(np.float32)


def repaint(frame: Frame, paint: Callable[[np.ndarray], np.ndarray]) -> Frame:
    """The frame with `paint` applied to its images: (H, W, 3) float64 of 0..1 to the same, clipped here."""
    return replace(frame, views=tuple(
        replace(view, image=np.rint(np.clip(paint(view.image / 255), 0, 1) * 255).astype(np.uint8))
        for view in frame.views
    ))


@dataclass(frozen=True)
class EveryBeam:
    """A LiDAR with only every `step`-th of the beams."""

    step: int

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        return select(frame, moment.lidar.beams(frame.points) % self.step == 0)


@dataclass(frozen=True)
class RangeNoise:
    """A less exact LiDAR. deviation: of the range, metres, beside what the sensor has."""

    deviation: float

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        ranges = np.linalg.norm(frame.points, axis=1) + moment.of_sweep.normal(0, self.deviation, len(frame.points))
        return replace(frame, points=along_rays(frame.points, ranges))


@dataclass(frozen=True)
class Dropout:
    """A LiDAR that loses a `share` of its returns at random, beside what the sensor loses."""

    share: float

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        return select(frame, moment.of_sweep.random(len(frame.points)) >= self.share)


@dataclass(frozen=True)
class Miscalibration:
    """Extrinsics told wrongly: the camera rotated about its own centre, about an axis that the drive draws."""

    degrees: float

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        axis = moment.of_drive.normal(size=3)
        error = np.eye(4)
        error[:3, :3], _ = cv2.Rodrigues(np.deg2rad(self.degrees) * axis / np.linalg.norm(axis))
        views = tuple(replace(view, camera_from_lidar=error @ view.camera_from_lidar) for view in frame.views)
        return replace(frame, views=views)
