"""Where the cameras sit: by a rig file, or by TF where this ROS has tf2_ros."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rclpy.time import Time

from tttkd_ros.geometry.rig import RigCamera, match_cameras
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.ros.tf import known_frames, matrix, start_anew


class FromRig:
    """A rig file's cameras, by the names that the node gives them."""

    def __init__(self, rig: Mapping[str, RigCamera]):
        self._rig = rig

    def rig(self, camera: str) -> RigCamera:
        return self._rig[camera]


class FromTf:
    """Transforms by the messages' frames, at the image's time; where TF does not reach it, the newest.

    buffer: a tf2_ros.Buffer that somebody else fills. Where it was cleared, what it gave last stands in; it is cleared
    here where what it holds is from before a jump back in time.
    """

    def __init__(self, buffer):
        self._buffer = buffer
        self._last: dict[tuple[str, str], np.ndarray] = {}

    def rig(self, camera: str) -> None:
        return None

    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, stamp: int) -> np.ndarray:
        return self.transform(camera_frame, lidar_frame, stamp)

    def transform(self, target: str, source: str, stamp: int) -> np.ndarray:
        """target_from_source (4, 4) float64, at that time. Never waits: raises ValueError if it is not known (yet)."""
        key = known_frames(self._buffer, target, source)
        for time in (Time(nanoseconds=stamp), Time()):
            # Asking first keeps the lookup from raising or waiting: the answer is there or it is not.
            if self._buffer.can_transform(*key, time):
                found = self._buffer.lookup_transform(*key, time)
                if time.nanoseconds == 0:
                    start_anew(self._buffer, stamp, nanoseconds(found.header.stamp))
                self._last[key] = matrix(found)
                return self._last[key]
        if key not in self._last:
            raise ValueError(f"no transform from {source!r} to {target!r} in TF yet")
        return self._last[key]


Extrinsics = FromRig | FromTf


def extrinsics(cameras: Mapping[str, str], rig: Mapping[str, RigCamera] | None, buffer) -> Extrinsics:
    """cameras: name -> image topic. rig: None if there is no file. buffer: a tf2_ros.Buffer, None if there is none.

    Raises ValueError if the rig lacks a camera, or if there is neither rig nor buffer.
    """
    if rig is not None:
        entries, _ = match_cameras(rig, cameras)
        missing = [f"{camera} ({topic})" for camera, topic in cameras.items() if camera not in entries]
        if missing:
            raise ValueError(f"the rig has no camera {', '.join(missing)}; it has {', '.join(rig) or 'none'}: correct "
                             "the parameter 'cameras', or name it so in the rig, or give the rig's entry its topic")
        return FromRig({camera: rig[entry] for camera, entry in entries.items()})
    if not cameras:
        return FromRig({})
    if buffer is None:
        raise ValueError(
            "no rig file given (parameter 'rig'), and this ROS has no tf2_ros to look the transforms up in; name a rig "
            "file such as config/rigs/kitti.yaml, or set cameras to [''] to segment only"
        )
    return FromTf(buffer)
