"""Where the vehicle is at any time, and how a sweep looks that is measured while it moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tttkd_ros.simulation.raycast import Primitives
from tttkd_ros.simulation.sensors import Lidar
from tttkd_ros.simulation.street import Street

SPEED = 8.0  # metres per second
SIGHT = 90.0  # metres that the camera renders; haze hides the rest
_FIRED = 8  # columns that a rolling sweep's sensor fires at once


@dataclass(frozen=True)
class Rolling:
    """A sweep that takes its time, beside a camera that takes its picture at another.

    speed: metres per second. duration: seconds from the first column, which the sweep's stamp is of, to the last.
    image_delay: seconds from the sweep's stamp to the image's.
    """

    speed: float = SPEED
    duration: float = 0.1
    image_delay: float = 0.04


@dataclass(frozen=True, eq=False)
class EgoMotion:
    """Down the right lane, with the slow sway of a vehicle on its springs. Times in seconds from its start.

    height: of the LiDAR over the road, metres. bob: (3,) phases of the sway. stop: seconds between which the vehicle
    stands still, and with it the traffic of its lane; all else moves on.
    """

    street: Street
    height: float
    speed: float
    bob: np.ndarray
    stop: tuple[float, float] = (0.0, 0.0)

    def solids(self, time: float) -> Primitives:
        """What stands and moves around the vehicle."""
        moved = self._moved(time)
        return self.street.primitives(self._along(moved), time, SIGHT, moved * self.speed / SPEED)

    def pose(self, time: float) -> np.ndarray:
        """(4, 4) world from LiDAR."""
        time = self._moved(time)
        s, bob = self._along(time), self.bob
        d = -self.street.style.lane / 2 + 0.2 * np.sin(0.4 * time + bob[0])
        lateral, heading = self.street.centre(s)
        roll, pitch = 0.01 * np.sin(1.3 * time + bob[1]), 0.01 * np.sin(0.9 * time + bob[2])
        yaw = heading + 0.02 * np.sin(0.5 * time + bob[0])
        about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        about_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
        pose = np.eye(4)
        pose[:3, :3] = about_z @ about_y @ about_x
        pose[:3, 3] = s, lateral + d, self.height
        return pose

    def _moved(self, time: float) -> float:
        """Seconds of driving by then."""
        begin, end = self.stop
        return time - min(max(time - begin, 0.0), end - begin)

    def _along(self, time: float) -> float:
        """Metres along the road, after so many seconds of driving."""
        return SIGHT / 2 + self.speed * time


@dataclass(frozen=True, eq=False)
class Firing:
    """Some columns of a LiDAR, all at one time; a `RayGrid`. time: seconds after the sweep's start."""

    lidar: Lidar
    columns: slice
    time: float

    @cached_property
    def directions(self) -> np.ndarray:
        return self.lidar.directions[:, :, self.columns]

    def windows(self, corners: np.ndarray) -> np.ndarray:
        windows = self.lidar.windows(corners)
        windows[:, 2:] = np.clip(windows[:, 2:], self.columns.start, self.columns.stop) - self.columns.start
        return windows


def firings(lidar: Lidar, duration: float) -> Iterator[Firing]:
    """All columns of a sweep, in the order in which they are measured."""
    columns = lidar.directions.shape[2]
    starts = range(0, columns, _FIRED)
    for number, start in enumerate(starts):
        yield Firing(lidar, slice(start, min(start + _FIRED, columns)), duration * number / max(len(starts) - 1, 1))
