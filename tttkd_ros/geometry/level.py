"""Turning a cloud so that its z axis points up, whichever way its sensor is mounted."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

UP = np.array([0.0, 0.0, 1.0])
FLAT = 1e-6  # sine of the tilt below which a sensor counts as level


def level(base_from_lidar: np.ndarray) -> np.ndarray | None:
    """The shortest rotation (3, 3) after which the LiDAR frame's z axis is that of the base frame; None if it is now.

    base_from_lidar: (4, 4), the base frame being one whose z axis points up (REP-103: base_link). The heading stays as
    the sensor has it: a student knows none.
    """
    up = base_from_lidar[2, :3] / np.linalg.norm(base_from_lidar[2, :3])  # the base frame's z axis in the LiDAR frame
    axis = np.cross(up, UP)
    if np.linalg.norm(axis) > FLAT:
        return Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(np.clip(up @ UP, -1, 1))).as_matrix()
    return None if up[2] > 0 else np.diag([1.0, -1.0, -1.0])  # upside down: any horizontal axis is as short
