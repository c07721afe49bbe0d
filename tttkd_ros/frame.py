"""The frame type that simulation, data sets, bags and the live node share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.features import DIRECTIONS
from tttkd_ros.geometry.camera import CameraModel


@dataclass(frozen=True, eq=False)
class View:
    """One camera's image of a sweep.

    stamp: nanoseconds. image: (H, W, 3) uint8 RGB. camera_from_lidar: (4, 4) float64, x_camera = camera_from_lidar @
    x_lidar; the camera frame is optical (x right, y down, z forward; REP-103). frame_id: its name, empty if unknown.
    features: (rows, columns, dim) float32, the teacher's of the image, if they are computed already.
    """

    name: str
    stamp: int
    image: np.ndarray
    camera: CameraModel
    camera_from_lidar: np.ndarray
    frame_id: str = ""
    features: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One LiDAR sweep and what belongs to it.

    stamp: nanoseconds. points: (N, 3) float32, metres, LiDAR frame. features: (N,) or (N, C) float32 each, by the names
    of `tttkd_ros.features`, in the LiDAR frame; those that the source has. labels: (N,) uint8, class ids,
    `classes.UNLABELLED` without truth. deskewed: (N, 3) float32, the points as if all had been measured at the stamp;
    None if point times or motion are unknown. Only projection uses it, because a student predicts and trains on the
    points as they came. level: (3, 3) float64, rotation from the LiDAR frame to one whose z axis points up; None if it
    does. frame_id: the LiDAR frame's name in ROS, or empty. missing: camera -> why it has no view.
    """

    stamp: int
    points: np.ndarray
    views: tuple[View, ...] = ()
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray | None = None
    deskewed: np.ndarray | None = None
    level: np.ndarray | None = None
    frame_id: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def intensity(self) -> np.ndarray | None:
        """(N,), or None if the source has none."""
        return self.features.get("intensity")

    @property
    def times(self) -> np.ndarray | None:
        """(N,), seconds from the stamp to each point's own time, or None."""
        return self.features.get("time")

    @property
    def upright(self) -> np.ndarray:
        """(N, 3): the points with z up, on which a student predicts and trains."""
        return upright(self.points, self.level)

    @property
    def upright_features(self) -> dict[str, np.ndarray]:
        """The features of the points with z up."""
        return upright_features(self.features, self.level)

    @property
    def projectable(self) -> np.ndarray:
        """(N, 3): the points to project into the views."""
        return self.points if self.deskewed is None else self.deskewed


def truth_of_returns(labels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The labels (N,) uint8, set to `UNLABELLED` at points (N, 3) that are not finite or at (0, 0, 0)."""
    returns = np.isfinite(points).all(1) & points.any(1)
    return np.where(returns, labels, np.uint8(UNLABELLED))


def upright(points: np.ndarray, level: np.ndarray | None) -> np.ndarray:
    """The points (N, 3) float32 rotated by level (3, 3), see `Frame`; the same array if that is None."""
    return points if level is None else points @ level.T.astype(np.float32)


def upright_features(features: Mapping[str, np.ndarray], level: np.ndarray | None) -> dict[str, np.ndarray]:
    """The features, see `Frame`, with directions rotated by level (3, 3)."""
    return {name: upright(values, level) if name in DIRECTIONS else values for name, values in features.items()}
