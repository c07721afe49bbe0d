"""KITTI's oxts files, GPS and inertia, as poses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from tttkd_ros.geometry.transforms import inverse

EARTH = 6378137.0  # metres: the radius of the sphere that KITTI's development kit projects


def oxts_poses(files: Sequence[Path], imu_from_lidar: np.ndarray) -> dict[int, np.ndarray]:
    """Number -> (4, 4), where the LiDAR was as seen from its first place.

    files: <n>.txt, each starting with latitude and longitude in degrees, altitude in metres, roll, pitch and yaw in
    radians. As convertOxtsToPose.m of KITTI's development kit: Mercator's projection, scaled for the first latitude.
    """
    poses: dict[int, np.ndarray] = {}
    scale, origin = 0.0, np.eye(4)
    for path in files:
        values = path.read_text(errors="replace").split()
        try:
            latitude, longitude, altitude, roll, pitch, yaw = (float(value) for value in values[:6])
            if not np.isfinite([latitude, longitude, altitude, roll, pitch, yaw]).all():
                raise ValueError("not all are finite")
        except ValueError as error:
            raise ValueError(f"{path} does not start with six numbers (latitude, longitude, altitude, roll, pitch, "
                             "yaw): fetch it again, or move the folder oxts away to convert without poses") from error
        scale = scale or np.cos(np.radians(latitude))
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("ZYX", (yaw, pitch, roll)).as_matrix()
        pose[:3, 3] = (
            scale * EARTH * np.radians(longitude),
            scale * EARTH * np.log(np.tan(np.radians(90 + latitude) / 2)),
            altitude,
        )
        pose = pose @ imu_from_lidar
        origin = origin if poses else inverse(pose)
        poses[int(path.stem)] = origin @ pose
    return poses
