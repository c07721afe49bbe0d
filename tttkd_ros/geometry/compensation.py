"""Motion compensation: projecting a sweep into an image that was taken at another time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from tttkd_ros.geometry.trajectory import Trajectory, deskew, sweep_stamps

log = logging.getLogger(__name__)


class Compensation:
    """Compensates the vehicle's motion. If the motion is not known, the vehicle counts as standing, with a warning.

    Args:
        trajectory: gives the trajectory of a LiDAR frame over the stamps (nanoseconds) asked for, as far as it is
            known, or raises ValueError. None if the vehicle stands.
        warn: logs why the motion is not known.
        info: logs whether the clouds have point times.
    """

    def __init__(self, trajectory: Callable[[str, Sequence[int]], Trajectory] | None = None,
                 warn: Callable[[str], object] = log.warning, info: Callable[[str], object] = log.info):
        self._trajectory = trajectory
        self._warn = warn
        self._info = info
        self._has_times: bool | None = None  # whether the last cloud had times

    def between(self, lidar_frame: str, image_stamp: int, stamp: int) -> np.ndarray:
        """(4, 4): static points in the LiDAR frame at `stamp` to the LiDAR frame at the image's stamp; both in ns."""
        if self._trajectory is None:
            return np.eye(4)
        try:
            return self._trajectory(lidar_frame, (image_stamp, stamp)).between(image_stamp, stamp)
        except ValueError as error:
            self._warn(f"projected at the cloud's time, not the image's: {error}")
            return np.eye(4)

    def deskewed(self, lidar_frame: str, stamp: int, points: np.ndarray,
                 times: Callable[[], np.ndarray | None]) -> np.ndarray | None:
        """Points (N, 3) float32, metres, LiDAR frame, as if measured at `stamp` (ns); None to project them as they are.

        `times` gives (N,), seconds from the stamp to each point's time, or None if the cloud has none, or raises
        ValueError. It is called only if the result is needed.
        """
        if self._trajectory is None or not len(points):
            return None
        try:
            seconds = times()
            if (has_times := seconds is not None) != self._has_times:
                self._has_times = has_times
                self._info(
                    "motion: the clouds have a time for each point; they are deskewed before projection" if has_times
                    else "motion: the clouds have no field with each point's time; they are not deskewed"
                )
            if seconds is None:
                return None
            return deskew(points, seconds, stamp, self._trajectory(lidar_frame, sweep_stamps(stamp, seconds)))
        except ValueError as error:
            self._warn(f"points not deskewed: {error}")
            return None
