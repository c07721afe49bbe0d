"""The vehicle's own motion between a sweep's points and an image: stamped poses, and what they are good for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.stamps import SECOND

# Odometry is told a little late: its newest pose may be of the sweep's start, 0.1 s before the last point. A car that
# brakes hard is 9 cm off after 0.15 s at constant velocity; at 10 m/s, standing still would be 1.5 m off.
REACH_NS = 150_000_000
BASE_NS = SECOND // 20  # over which that velocity is taken: between poses closer than that, their noise would speak
SAMPLE_NS = SECOND // 100  # between the poses asked for within a sweep
STEPS = 2048  # poses within a sweep that points are moved by: of 0.1 s, one every 50 us, which is 1 mm at 20 m/s


class Trajectory:
    """Where a frame (the LiDAR's) was in a fixed one (odometry's).

    stamps: (K,) nanoseconds, in any order, kept ascending; of equal ones the last holds. poses: (K, 4, 4), fixed from
    moving. Between two stamps the position is interpolated linearly and the rotation along its arc; beyond the ends
    velocity stays for `REACH_NS`, and there is no pose further out.
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
        # The reach beyond the ends is one more pose at each, so that all that follows is interpolation.
        if len(unique) > 1:
            before = min(np.searchsorted(unique, self.first + BASE_NS), len(unique) - 1)
            after = max(np.searchsorted(unique, self.last - BASE_NS, "right") - 1, 0)
            ends = (
                _onward(poses[before], poses[0], REACH_NS / (unique[before] - self.first)),
                _onward(poses[after], poses[-1], REACH_NS / (self.last - unique[after])),
            )
            poses = np.concatenate((ends[:1], poses, ends[1:]))
            unique = np.concatenate(([self.first - REACH_NS], unique, [self.last + REACH_NS]))
        self._start = int(unique[0])
        self._seconds = (unique - self._start) / SECOND  # from the first: exact to less than a nanosecond
        self._positions = poses[:, :3, 3]
        self._rotation = Slerp(self._seconds, Rotation.from_matrix(poses[:, :3, :3])) if len(unique) > 1 else None
        self._only = poses[0]

    def at(self, stamps: Sequence[int] | np.ndarray) -> np.ndarray:
        """stamps (N,) nanoseconds -> poses (N, 4, 4) float64. Raises ValueError where one is out of reach."""
        stamps = np.asarray(stamps, np.int64)
        seconds = (stamps - self._start) / SECOND
        outside = stamps[(seconds < 0) | (seconds > self._seconds[-1])]
        if len(outside):
            early = outside[0] < self.first
            gap = (self.first - outside[0] if early else outside[0] - self.last) * 1e-6
            raise ValueError(f"the vehicle's pose is known only {'from' if early else 'up to'} {gap:.0f} ms "
                             f"{'after' if early else 'before'} then")
        poses = np.tile(self._only, (len(stamps), 1, 1))
        if self._rotation is not None:
            poses[:, :3, :3] = self._rotation(seconds).as_matrix()
            poses[:, :3, 3] = np.stack([np.interp(seconds, self._seconds, axis) for axis in self._positions.T], 1)
        return poses

    def between(self, target: int, source: int) -> np.ndarray:
        """(4, 4): what stands still, from where it is in the moving frame at `source` to where it is at `target`."""
        then, now = self.at((target, source))
        return inverse(then) @ now


def sweep_stamps(stamp: int, times: np.ndarray) -> np.ndarray:
    """(K,) int64: the instants at which `deskew` wants to know the pose; times as there."""
    first, last = (stamp + round(float(time) * SECOND) for time in (times.min(), times.max()))
    within = np.linspace(first, last, max(2, int(np.ceil((last - first) / SAMPLE_NS)) + 1)).astype(np.int64)
    return np.unique(np.append(within, stamp))


def deskew(points: np.ndarray, times: np.ndarray, stamp: int, trajectory: Trajectory) -> np.ndarray:
    """The points as if all had been measured at `stamp`, (N, 3) float32.

    points: (N, 3) float32, metres, each in the LiDAR frame of its own instant. times: (N,), seconds from `stamp` to
    that instant. Raises ValueError where the trajectory does not reach over them.
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


def _onward(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    """(4, 4): `end` moved on by that share of the way from `start` to it, in the same curve."""
    first, last = (Rotation.from_matrix(pose[:3, :3]) for pose in (start, end))
    turn = (first.inv() * last).as_rotvec()
    # A chord points to where half of its turn is done.
    chord = Rotation.from_rotvec(turn * (share - 1) / 2).apply(first.inv().apply(end[:3, 3] - start[:3, 3]))
    pose = np.eye(4)
    pose[:3, :3] = (last * Rotation.from_rotvec(turn * share)).as_matrix()
    pose[:3, 3] = end[:3, 3] + last.apply(chord * share)
    return pose
