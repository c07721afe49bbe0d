"""The vehicle's motion between the points of a sweep and an image: stamped poses, deskewing and compensation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from tttkd_ros.geometry.transforms import inverse

log = logging.getLogger(__name__)

SECOND = 1_000_000_000  # nanoseconds
# Odometry lags: its newest pose may be that of the sweep's start, 0.1 s before the last point.
EXTRAPOLATION_NS = 150_000_000
VELOCITY_NS = SECOND // 20  # minimum span of the velocity at either end: over less, the noise of the poses dominates
SAMPLE_NS = SECOND // 100  # distance of the poses that are looked up for a sweep
STEPS = 2048  # poses that the points of a sweep are moved by: for 0.1 s one every 50 us, or 1 mm at 20 m/s


class Trajectory:
    """The poses (K, 4, 4) of a moving frame (the LiDAR's) in a fixed one (odometry's), at stamps (K,) in nanoseconds.

    Positions are interpolated linearly, rotations along their arc. Beyond either end the velocity is kept constant for
    `EXTRAPOLATION_NS`. Stamps may have any order; of equal ones the last counts. Raises ValueError for other shapes.
    """

    def __init__(self, stamps: Sequence[int] | np.ndarray, poses: Sequence[np.ndarray] | np.ndarray):
        stamps, poses = np.asarray(stamps, np.int64), np.asarray(poses, np.float64)
        if stamps.ndim != 1 or not len(stamps) or poses.shape != (len(stamps), 4, 4):
            raise ValueError(f"a trajectory has stamps {stamps.shape} and poses {poses.shape}; expected (K,) and "
                             "(K, 4, 4), K at least 1")
        unique, last = np.unique(stamps[::-1], return_index=True)
        poses = poses[::-1][last]
        self.stamps = unique
        self.first, self.last = int(unique[0]), int(unique[-1])
        # One extrapolated pose at either end, so that all that follows is interpolation.
        if len(unique) > 1:
            before = min(np.searchsorted(unique, self.first + VELOCITY_NS), len(unique) - 1)
            after = max(np.searchsorted(unique, self.last - VELOCITY_NS, "right") - 1, 0)
            start = _extrapolate(poses[before], poses[0], EXTRAPOLATION_NS / (unique[before] - self.first))
            end = _extrapolate(poses[after], poses[-1], EXTRAPOLATION_NS / (self.last - unique[after]))
            poses = np.concatenate(([start], poses, [end]))
            unique = np.concatenate(([self.first - EXTRAPOLATION_NS], unique, [self.last + EXTRAPOLATION_NS]))
        self._start = int(unique[0])
        self._seconds = (unique - self._start) / SECOND  # from the start: exact to less than a nanosecond
        self._positions = poses[:, :3, 3]
        self._rotation = Slerp(self._seconds, Rotation.from_matrix(poses[:, :3, :3])) if len(unique) > 1 else None
        self._first_pose = poses[0]

    def at(self, stamps: Sequence[int] | np.ndarray) -> np.ndarray:
        """The poses (N, 4, 4) float64 at stamps (N,), nanoseconds. Raises ValueError if one is too far outside."""
        stamps = np.asarray(stamps, np.int64)
        seconds = (stamps - self._start) / SECOND
        outside = stamps[(seconds < 0) | (seconds > self._seconds[-1])]
        if len(outside):
            early = outside[0] < self.first
            gap = (self.first - outside[0] if early else outside[0] - self.last) * 1e-6
            raise ValueError(f"the vehicle's pose is known only {'from' if early else 'up to'} {gap:.0f} ms "
                             f"{'after' if early else 'before'} then")
        poses = np.tile(self._first_pose, (len(stamps), 1, 1))
        if self._rotation is not None:
            poses[:, :3, :3] = self._rotation(seconds).as_matrix()
            poses[:, :3, 3] = np.stack([np.interp(seconds, self._seconds, axis) for axis in self._positions.T], 1)
        return poses

    def between(self, target: int, source: int) -> np.ndarray:
        """(4, 4): static points in the moving frame at `source` to the moving frame at `target`; stamps in ns."""
        at_target, at_source = self.at((target, source))
        return inverse(at_target) @ at_source


class Compensation:
    """Compensates the vehicle's motion. If the motion is not known, the vehicle counts as standing, with a warning.

    trajectory: gives the trajectory of a LiDAR frame over the stamps (nanoseconds) asked for, as far as it is known, or
    raises ValueError. None if the vehicle stands. info: logs whether the clouds have point times.
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


def sweep_stamps(stamp: int, times: np.ndarray) -> np.ndarray:
    """The stamps (K,) int64 at which `deskew` needs poses. Arguments as there."""
    first, last = (stamp + round(float(time) * SECOND) for time in (times.min(), times.max()))
    within = np.linspace(first, last, max(2, int(np.ceil((last - first) / SAMPLE_NS)) + 1)).astype(np.int64)
    return np.unique(np.append(within, stamp))


def deskew(points: np.ndarray, times: np.ndarray, stamp: int, trajectory: Trajectory) -> np.ndarray:
    """Move points (N, 3) float32, metres, each in the LiDAR frame of its own time, to the LiDAR frame at `stamp` (ns).

    times: (N,), seconds from the stamp to each point's time. Raises ValueError if the trajectory does not cover them.
    """
    if not len(points):
        return points.astype(np.float32)
    first, last = float(times.min()), float(times.max())
    instants = stamp + np.rint(np.linspace(first, last, STEPS) * SECOND).astype(np.int64)
    moved = inverse(trajectory.at([stamp])[0]) @ trajectory.at(instants)
    per_second = (STEPS - 1) / (last - first) if last > first else 0.0
    step = np.rint((times - first) * per_second).astype(np.int64)
    each = moved.astype(np.float32)[:, :3].reshape(STEPS, 12)[step].reshape(-1, 3, 4)
    return np.einsum("nij,nj->ni", each[:, :, :3], points) + each[:, :, 3]


def _extrapolate(start: np.ndarray, end: np.ndarray, factor: float) -> np.ndarray:
    """(4, 4): `end` moved on along the curve from `start` to it, by that factor of its length."""
    first, last = (Rotation.from_matrix(pose[:3, :3]) for pose in (start, end))
    rotation = (first.inv() * last).as_rotvec()
    # A chord has the direction that the curve has halfway.
    chord = Rotation.from_rotvec(rotation * (factor - 1) / 2).apply(first.inv().apply(end[:3, 3] - start[:3, 3]))
    pose = np.eye(4)
    pose[:3, :3] = (last * Rotation.from_rotvec(rotation * factor)).as_matrix()
    pose[:3, 3] = end[:3, 3] + last.apply(chord * factor)
    return pose
