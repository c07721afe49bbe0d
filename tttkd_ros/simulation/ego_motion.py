"""Motion of the ego vehicle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tttkd_ros.simulation.raycast import Solids
from tttkd_ros.simulation.street import Street

SPEED = 8.0  # metres per second
VIEW_DISTANCE = 90.0  # metres that the camera renders; haze hides the rest


@dataclass(frozen=True)
class Rolling:
    """Timing of sensors that measure while the vehicle moves."""

    speed: float = SPEED  # metres per second
    duration: float = 0.1  # seconds from a sweep's first column, at the sweep's stamp, to its last
    image_delay: float = 0.04  # seconds from the sweep's stamp to the image's


@dataclass(frozen=True, eq=False)
class EgoMotion:
    """A drive down the right lane, with the slow sway of a vehicle on springs. Times are seconds since the start."""

    street: Street
    height: float  # of the LiDAR over the road, metres
    speed: float
    sway_phases: np.ndarray  # (3,) radians
    stop: tuple[float, float] = (0.0, 0.0)  # begin and end; traffic of the same lane stops too, all else moves on

    def solids(self, time: float) -> Solids:
        """Solids around the vehicle."""
        driving_time = self._driving_time(time)
        return self.street.solids_near(self._s(driving_time), time, VIEW_DISTANCE, driving_time * self.speed / SPEED)

    def pose(self, time: float) -> np.ndarray:
        """(4, 4) world from LiDAR."""
        time = self._driving_time(time)
        s, phases = self._s(time), self.sway_phases
        d = -self.street.style.lane / 2 + 0.2 * np.sin(0.4 * time + phases[0])
        lateral, heading = self.street.centre_line(s)
        roll, pitch = 0.01 * np.sin(1.3 * time + phases[1]), 0.01 * np.sin(0.9 * time + phases[2])
        yaw = heading + 0.02 * np.sin(0.5 * time + phases[0])
        about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        about_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
        pose = np.eye(4)
        pose[:3, :3] = about_z @ about_y @ about_x
        pose[:3, 3] = s, lateral + d, self.height
        return pose

    def _driving_time(self, time: float) -> float:
        """Seconds until `time` without the stop."""
        begin, end = self.stop
        return time - min(max(time - begin, 0.0), end - begin)

    def _s(self, driving_time: float) -> float:
        """Metres along the road."""
        return VIEW_DISTANCE / 2 + self.speed * driving_time
