"""How the LiDAR is mounted: the rotation after which the z axis of its clouds points up, as in the training data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from tttkd_ros.names import without_slash

BASE_FRAME = "base_link"  # by REP-105
UP = np.array([0.0, 0.0, 1.0])
MIN_TILT = 1e-6  # sine of the angle below which a sensor counts as level


class Mounting:
    """Finds the rotation that levels each sweep. A sweep whose mounting is not known stays as it is.

    base_from_lidar: (4, 4) of the rig file, for every LiDAR frame; it takes precedence over `lookup`. base_frame: its z
    axis points up (REP-103); empty to level nothing without a rig. lookup: called with the base frame, the LiDAR frame
    and the `when` of `level`; gives (4, 4) or raises ValueError. info: logs what is found for each frame.
    """

    def __init__(self, base_from_lidar: np.ndarray | None, base_frame: str, lookup: Callable[..., np.ndarray] | None,
                 info: Callable[[str], object]):
        self._rigged = base_from_lidar
        self._base_frame = without_slash(base_frame)
        self._lookup = lookup
        self._info = info
        self._logged: dict[str, str] = {}  # LiDAR frame -> the last finding

    def level(self, lidar_frame: str, *when: int) -> np.ndarray | None:
        """(3, 3) float64, see `levelling_rotation`; None to leave the sweep as it is."""
        source, base_from_lidar = "the rig", self._rigged
        if base_from_lidar is None:
            if self._lookup is None or not self._base_frame or without_slash(lidar_frame) == self._base_frame:
                return None
            source = f"TF ({self._base_frame})"
            try:
                base_from_lidar = self._lookup(self._base_frame, lidar_frame, *when)
            except ValueError as error:
                self._log(lidar_frame, f"points are taken as level: {error}")
                return None
        rotation = levelling_rotation(base_from_lidar)
        if rotation is None:
            self._log(lidar_frame, f"by {source} it is level")
        else:
            # In steps of 10 degrees, so that a walking robot's tilt is not logged all the time.
            tilt = 10 * round(np.degrees(np.arccos(np.clip(rotation[2, 2], -1, 1))) / 10)
            self._log(lidar_frame, f"by {source} it is tilted by about {tilt} degrees: points are turned upright")
        return rotation

    def _log(self, lidar_frame: str, text: str) -> None:
        finding = text.partition(":")[0]
        if self._logged.get(lidar_frame) != finding:
            self._logged[lidar_frame] = finding
            self._info(f"mounting of {lidar_frame!r}: {text}")


def levelling_rotation(base_from_lidar: np.ndarray) -> np.ndarray | None:
    """The shortest rotation (3, 3) that turns the base frame's z axis, which points up, into the LiDAR frame's.

    None if they are equal. The heading stays as the sensor has it. base_from_lidar: (4, 4).
    """
    up = base_from_lidar[2, :3] / np.linalg.norm(base_from_lidar[2, :3])  # the base frame's z axis in the LiDAR frame
    axis = np.cross(up, UP)
    if np.linalg.norm(axis) > MIN_TILT:
        return Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(np.clip(up @ UP, -1, 1))).as_matrix()
    return None if up[2] > 0 else np.diag([1.0, -1.0, -1.0])  # upside down: every horizontal axis is as short
