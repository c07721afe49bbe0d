"""Where the camera-from-LiDAR transforms come from: a rig file, or TF where this ROS has tf2_ros."""

from __future__ import annotations

import importlib.util
from typing import Protocol

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.rig import RigCamera, load_rig
from tttkd_ros.geometry.transforms import transform
from tttkd_ros.ros.files import resolve


class Extrinsics(Protocol):
    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str) -> np.ndarray:
        """(4, 4) float64. Never waits: raises ValueError where the transform is not known (yet)."""

    def model(self, camera: str) -> CameraModel | None:
        """The camera model to use until a CameraInfo arrives."""


class FromRig:
    """A rig file's transforms, whatever the messages' frames are called."""

    def __init__(self, rig: dict[str, RigCamera]):
        self._rig = rig

    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str) -> np.ndarray:
        return self._rig[camera].camera_from_lidar

    def model(self, camera: str) -> CameraModel | None:
        return self._rig[camera].camera


class FromTf:
    """Static transforms by the messages' frames, kept once found.

    buffer: a tf2_ros.Buffer that somebody else fills. listener: what fills it, kept alive.
    """

    def __init__(self, buffer, listener=None):
        self._buffer = buffer
        self._listener = listener
        self._found: dict[tuple[str, str], np.ndarray] = {}

    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str) -> np.ndarray:
        key = camera_frame, lidar_frame
        if key not in self._found:
            if not camera_frame:
                raise ValueError("no CameraInfo yet, and so no frame to look up in TF")
            # Asking first keeps the lookup from raising or waiting: the answer is there or it is not.
            if not self._buffer.can_transform(camera_frame, lidar_frame, Time()):
                raise ValueError(f"no transform from {lidar_frame!r} to {camera_frame!r} in TF yet")
            found = self._buffer.lookup_transform(camera_frame, lidar_frame, Time()).transform
            t, q = found.translation, found.rotation
            self._found[key] = transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
        return self._found[key]

    def model(self, camera: str) -> CameraModel | None:
        return None


def extrinsics(node: Node, cameras: tuple[str, ...], rig: str) -> Extrinsics:
    """Raises ValueError where the rig file is missing or lacks a camera, or where there is neither rig nor tf2_ros."""
    if rig:
        path = resolve(rig)
        known = load_rig(path)
        missing = [camera for camera in cameras if camera not in known]
        if missing:
            raise ValueError(f"rig {path} has no camera {', '.join(missing)}; it has {', '.join(known) or 'none'}")
        return FromRig(known)
    if not cameras:
        return FromRig({})
    if importlib.util.find_spec("tf2_ros") is None:
        raise ValueError(
            "no rig file given (parameter 'rig'), and this ROS has no tf2_ros to look the transforms up in; name a rig "
            "file such as config/rigs/kitti.yaml, or set cameras to [''] to segment only"
        )
    from tf2_ros import Buffer, TransformListener

    buffer = Buffer(node=node)
    return FromTf(buffer, TransformListener(buffer, node))
