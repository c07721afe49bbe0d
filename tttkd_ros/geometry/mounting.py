"""How the LiDAR is mounted: turning its clouds so that the z axis points up, as it did where the student learned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from tttkd_ros.names import without_slash

BASE_FRAME = "base_link"  # by REP-105
UP = np.array([0.0, 0.0, 1.0])
FLAT = 1e-6  # sine of the tilt below which a sensor counts as level


class Mounting:
    """The rotation that levels each sweep. A sweep whose mounting is not known is left as it is.

    base_from_lidar: (4, 4), what a rig says of every frame; it goes before the lookup. base_frame: a frame whose z axis
    points up (REP-103: base_link); empty to level nothing without a rig. lookup: gives (4, 4) base_from_lidar of a
    LiDAR frame, with whatever else `level` is given; raises ValueError if it is not known; None if nothing tells it.
    info: told what is found about each frame, when that changes.
    """

    def __init__(
        self,
        base_from_lidar: np.ndarray | None,
        base_frame: str,
        lookup: Callable[..., np.ndarray] | None,
        info: Callable[[str], object],
    ):
        self._rigged = base_from_lidar
        self._base_frame = without_slash(base_frame)
        self._lookup = lookup
        self._info = info
        self._said: dict[str, str] = {}  # of each LiDAR frame

    def level(self, lidar_frame: str, *when: int) -> np.ndarray | None:
        """(3, 3) float64, see `level`; None if there is nothing to turn."""
        if self._rigged is not None:
            return self._found(lidar_frame, "the rig", level(self._rigged))
        if self._lookup is None or not self._base_frame or without_slash(lidar_frame) == self._base_frame:
            return None
        try:
            base_from_lidar = self._lookup(self._base_frame, lidar_frame, *when)
        except ValueError as error:
            self._say(lidar_frame, f"points are taken as level: {error}")
            return None
        return self._found(lidar_frame, f"TF ({self._base_frame})", level(base_from_lidar))

    def _found(self, lidar_frame: str, source: str, turn: np.ndarray | None) -> np.ndarray | None:
        if turn is None:
            self._say(lidar_frame, f"by {source} it is level")
        else:
            # In steps of 10 degrees: a walking robot's tilt is no news.
            tilt = 10 * round(np.degrees(np.arccos(np.clip(turn[2, 2], -1, 1))) / 10)
            self._say(lidar_frame, f"by {source} it is tilted by about {tilt} degrees: points are turned upright")
        return turn

    def _say(self, lidar_frame: str, what: str) -> None:
        kind = what.partition(":")[0]
        if self._said.get(lidar_frame) != kind:
            self._said[lidar_frame] = kind
            self._info(f"mounting of {lidar_frame!r}: {what}")


def level(base_from_lidar: np.ndarray) -> np.ndarray | None:
    """The shortest rotation (3, 3) after which the LiDAR frame's z axis is that of the base frame; None if it is now.

    base_from_lidar: (4, 4), the base frame being one whose z axis points up. The heading stays as the sensor has it: a
    student knows none.
    """
    up = base_from_lidar[2, :3] / np.linalg.norm(base_from_lidar[2, :3])  # the base frame's z axis in the LiDAR frame
    axis = np.cross(up, UP)
    if np.linalg.norm(axis) > FLAT:
        return Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(np.clip(up @ UP, -1, 1))).as_matrix()
    return None if up[2] > 0 else np.diag([1.0, -1.0, -1.0])  # upside down: any horizontal axis is as short
