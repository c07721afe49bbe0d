"""The one frame type that simulation, data sets, bags and the live node share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tttkd_ros.geometry.camera import CameraModel


@dataclass(frozen=True, eq=False)
class View:
    """One camera's image beside a sweep.

    stamp: nanoseconds. image: (H, W, 3) uint8 RGB. camera_from_lidar: (4, 4) float64, so that
    x_camera = camera_from_lidar @ x_lidar, the camera frame being optical (x right, y down, z forward; REP-103).
    """

    name: str
    stamp: int
    image: np.ndarray
    camera: CameraModel
    camera_from_lidar: np.ndarray


@dataclass(frozen=True, eq=False)
class Frame:
    """One LiDAR sweep with what belongs to it.

    stamp: nanoseconds. points: (N, 3) float32, metres, LiDAR frame. intensity: (N,) float32.
    labels: (N,) uint8, class ids with `classes.UNLABELLED` where there is no truth. times: (N,) seconds from the stamp
    to each point's own instant, where a simulation tells them. deskewed: (N, 3) float32, the points as if all had been
    measured at the stamp, where both that and the vehicle's motion are known. Only projection uses them: a student
    trains on the points as they came, which are what it predicts on. level: (3, 3) float64, the rotation from the LiDAR
    frame to one whose z axis points up, for a sensor that is tilted, upside down or reports in an optical frame.
    frame_id: the LiDAR frame's name in ROS; empty where there is none.
    """

    stamp: int
    points: np.ndarray
    views: tuple[View, ...] = ()
    intensity: np.ndarray | None = None
    labels: np.ndarray | None = None
    times: np.ndarray | None = None
    deskewed: np.ndarray | None = None
    level: np.ndarray | None = None
    frame_id: str = ""

    @property
    def upright(self) -> np.ndarray:
        """(N, 3): the points with z up, which are what a student predicts and trains on."""
        return upright(self.points, self.level)

    @property
    def projectable(self) -> np.ndarray:
        """(N, 3): the points to project on the views."""
        return self.points if self.deskewed is None else self.deskewed


def upright(points: np.ndarray, level: np.ndarray | None) -> np.ndarray:
    """points (N, 3) float32 turned by level (3, 3), see `Frame`; the points themselves where that is None."""
    return points if level is None else points @ level.T.astype(np.float32)
