"""Projecting a sweep on an image of another instant, from a vehicle that has moved meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from tttkd_ros.geometry.trajectory import Trajectory, deskew, sweep_stamps

log = logging.getLogger(__name__)


class Compensation:
    """Where the motion is not known, all is projected as if the vehicle stood, and `complain` is told why.

    trajectory: of a LiDAR frame, as `between` and `deskewed` are given it, reaching over the stamps (nanoseconds) asked
    for as far as it is known; raises ValueError where it is not known at all. None: the vehicle always stands.
    info: told whether the clouds have times.
    """

    def __init__(
        self,
        trajectory: Callable[[str, Sequence[int]], Trajectory] | None = None,
        complain: Callable[[str], object] = log.warning,
        info: Callable[[str], object] = log.info,
    ):
        self._trajectory = trajectory
        self._complain = complain
        self._info = info
        self._told: bool | None = None  # whether clouds have times

    def between(self, lidar_frame: str, image_stamp: int, stamp: int) -> np.ndarray:
        """(4, 4): what stands still, from the LiDAR frame at `stamp` to that at the image's stamp."""
        if self._trajectory is None:
            return np.eye(4)
        try:
            return self._trajectory(lidar_frame, (image_stamp, stamp)).between(image_stamp, stamp)
        except ValueError as error:
            self._complain(f"projected at the cloud's time, not the image's: {error}")
            return np.eye(4)

    def deskewed(
        self, lidar_frame: str, stamp: int, points: np.ndarray, times: Callable[[], np.ndarray | None]
    ) -> np.ndarray | None:
        """The points (N, 3) as if all had been measured at `stamp`; None to project them as they are.

        times: gives (N,), seconds from the stamp to each point's instant, None where that is not told, or raises
        ValueError; asked only where it is of use.
        """
        if self._trajectory is None or not len(points):
            return None
        try:
            seconds = times()
            self._tell(seconds is not None)
            if seconds is None:
                return None
            return deskew(points, seconds, stamp, self._trajectory(lidar_frame, sweep_stamps(stamp, seconds)))
        except ValueError as error:
            self._complain(f"points not deskewed: {error}")
            return None

    def _tell(self, has_times: bool) -> None:
        if has_times != self._told:
            self._told = has_times
            self._info(
                "motion: the clouds tell each point's time; they are deskewed before projection" if has_times
                else "motion: the clouds have no field with each point's time; they are not deskewed"
            )
