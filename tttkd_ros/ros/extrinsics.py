"""Where the camera-from-LiDAR transforms come from: a rig file, or TF where this ROS has tf2_ros."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from rclpy.time import Time

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.rig import RigCamera, load_rig
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.ros.files import resolve
from tttkd_ros.ros.tf import matrix, start_anew


class Extrinsics(Protocol):
    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, stamp: int) -> np.ndarray:
        """(4, 4) float64, at that time. Never waits: raises ValueError where the transform is not known (yet)."""

    def model(self, camera: str) -> CameraModel | None:
        """The camera model to use until a CameraInfo arrives."""


class FromRig:
    """A rig file's transforms, whatever the messages' frames are called."""

    def __init__(self, rig: dict[str, RigCamera]):
        self._rig = rig

    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, stamp: int) -> np.ndarray:
        return self._rig[camera].camera_from_lidar

    def model(self, camera: str) -> CameraModel | None:
        return self._rig[camera].camera


class FromTf:
    """Transforms by the messages' frames, at the image's time; where TF does not reach it, the newest.

    buffer: a tf2_ros.Buffer that somebody else fills. Where it was cleared, what it gave last stands in; it is cleared
    here where what it holds is from before a jump back in time.
    """

    def __init__(self, buffer):
        self._buffer = buffer
        self._last: dict[tuple[str, str], np.ndarray] = {}

    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, stamp: int) -> np.ndarray:
        if not camera_frame:
            raise ValueError("no CameraInfo yet, and so no frame to look up in TF")
        key = camera_frame, lidar_frame
        for time in (Time(nanoseconds=stamp), Time()):
            # Asking first keeps the lookup from raising or waiting: the answer is there or it is not.
            if self._buffer.can_transform(*key, time):
                found = self._buffer.lookup_transform(*key, time)
                if time.nanoseconds == 0:
                    start_anew(self._buffer, stamp, nanoseconds(found.header.stamp))
                self._last[key] = matrix(found)
                return self._last[key]
        if key not in self._last:
            raise ValueError(f"no transform from {lidar_frame!r} to {camera_frame!r} in TF yet")
        return self._last[key]

    def model(self, camera: str) -> CameraModel | None:
        return None


def extrinsics(cameras: tuple[str, ...], rig: str, buffer) -> Extrinsics:
    """buffer: a tf2_ros.Buffer, None where there is none.

    Raises ValueError where the rig file is missing or lacks a camera, or where there is neither rig nor buffer.
    """
    if rig:
        path = resolve(rig)
        known = load_rig(path)
        missing = [camera for camera in cameras if camera not in known]
        if missing:
            raise ValueError(f"rig {path} has no camera {', '.join(missing)}; it has {', '.join(known) or 'none'}")
        return FromRig(known)
    if not cameras:
        return FromRig({})
    if buffer is None:
        raise ValueError(
            "no rig file given (parameter 'rig'), and this ROS has no tf2_ros to look the transforms up in; name a rig "
            "file such as config/rigs/kitti.yaml, or set cameras to [''] to segment only"
        )
    return FromTf(buffer)
