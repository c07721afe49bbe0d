"""Measure the street: a LiDAR's sweep, and a camera's image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tttkd_ros.simulation.appearance import Appearance, shade
from tttkd_ros.simulation.ego_motion import VIEW_DISTANCE, EgoMotion
from tttkd_ros.simulation.parts import FUZZ, LABEL_OF_PART, PART, POROSITY, REFLECTIVITY
from tttkd_ros.simulation.raycast import GROUND, NOTHING, Hits, RayGrid, Solids, cast
from tttkd_ros.simulation.sensors import Camera, Lidar
from tttkd_ros.simulation.street import Street

_COLUMNS_PER_FIRING = 8


@dataclass(frozen=True, eq=False)
class _Firing:
    """A `RayGrid` of the LiDAR columns that are measured at one time."""

    lidar: Lidar
    columns: slice

    @cached_property
    def directions(self) -> np.ndarray:
        return self.lidar.directions[:, :, self.columns]

    def windows(self, corners: np.ndarray) -> np.ndarray:
        windows = self.lidar.windows(corners)
        windows[:, 2:] = np.clip(windows[:, 2:], self.columns.start, self.columns.stop) - self.columns.start
        return windows


def measure_sweep(motion: EgoMotion, lidar: Lidar, time: float, duration: float | None, generator: np.random.Generator):
    """Measure a sweep that starts at `time`.

    duration: seconds from its first column to its last, during which the vehicle moves; None for one instant. Returns
    points (N, 3) float32 in the LiDAR frame at each point's own time, intensity (N,) float32, labels (N,) uint8, and
    times (N,) float64, seconds after `time`.
    """
    columns = lidar.directions.shape[2]
    step = columns if duration is None else _COLUMNS_PER_FIRING
    starts = range(0, columns, step)
    traced = []
    for number, start in enumerate(starts):
        delay = number * (duration or 0.0) / max(len(starts) - 1, 1)
        firing, now = _Firing(lidar, slice(start, start + step)), time + delay
        hits = _trace(motion.street, firing, motion.pose(now), motion.solids(now), lidar.max_range)
        traced.append((hits.distance, hits.index, hits.part, np.full(hits.part.shape, delay)))
    distance, index, part, times = (np.concatenate(arrays, 1) for arrays in zip(*traced, strict=True))
    passed = generator.random(distance.shape) < POROSITY[part]
    lost = generator.random(distance.shape) < lidar.dropout * (0.5 + distance / lidar.max_range)
    returned = (index != NOTHING) & (part != PART["sky"]) & ~passed & ~lost
    part, distance = part[returned], distance[returned]
    fuzz = FUZZ[part]
    distance = distance + generator.normal(0, lidar.noise, len(part)) + fuzz * np.abs(generator.normal(0, 1, len(part)))
    distance += np.where(part == PART["window"], 0.15, 0.0)  # panes are set back in the wall
    points = (lidar.directions[:, returned] * distance).T.astype(np.float32)
    intensity = np.clip(REFLECTIVITY[part] + generator.normal(0, 0.05, len(part)), 0, 1).astype(np.float32)
    return np.ascontiguousarray(points), intensity, LABEL_OF_PART[part], times[returned]


def render_image(motion: EgoMotion, camera: Camera, time: float, appearance: Appearance,
                 generator: np.random.Generator):
    """Render the camera's image.

    Returns (H, W, 3) uint8 RGB, indices into `PARTS` (H, W) uint8, and metres to what each pixel shows (H, W) float32,
    infinity for the sky.
    """
    pose, solids = motion.pose(time) @ np.linalg.inv(camera.camera_from_lidar), motion.solids(time)
    hits = _trace(motion.street, camera, pose, solids, VIEW_DISTANCE)
    image = shade(appearance, hits, solids, generator)
    metres = hits.distance * np.linalg.norm(hits.directions, axis=2)
    depth = np.where(hits.part == PART["sky"], np.inf, metres).astype(np.float32)
    return image, hits.part.astype(np.uint8), depth


def _trace(street: Street, grid: RayGrid, pose: np.ndarray, solids: Solids, max_range: float) -> Hits:
    """Cast rays at solids and ground."""
    distance, index = cast(grid, pose[:3, :3], pose[:3, 3], solids, max_range)
    directions = np.einsum("ij,jrc->rci", pose[:3, :3], grid.directions)
    with np.errstate(divide="ignore", over="ignore"):
        to_road = np.where(directions[..., 2] < -1e-4, -pose[2, 3] / np.minimum(directions[..., 2], -1e-4), np.inf)
    # Rays hit raised ground before the road's level: classify at that level, then correct the distance once.
    downwards = to_road < distance * 1.5
    xy = pose[:2, 3] + to_road[downwards, None] * directions[downwards, :2]
    ground_part, height = street.ground(xy[:, 0], xy[:, 1])
    to_ground = (height - pose[2, 3]) / directions[downwards, 2]
    closer = to_ground < distance[downwards]
    rows, columns = (axis[closer] for axis in np.nonzero(downwards))
    distance[rows, columns], index[rows, columns] = to_ground[closer], GROUND
    part = np.full(distance.shape, PART["sky"], np.int16)
    part[rows, columns] = ground_part[closer]
    on_solid = index >= 0
    part[on_solid] = solids.part[index[on_solid]]
    points = pose[:3, 3] + distance[..., None] * directions
    part[on_solid] = _with_windows(solids, index[on_solid], part[on_solid], points[on_solid])
    return Hits(distance, index, part, points, directions)


def _with_windows(solids: Solids, owner: np.ndarray, part: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`part` (K,) with each wall's regular windows, for hits points (K, 3) on solids `owner` (K,)."""
    walls = np.flatnonzero(part == PART["wall"])
    local = solids.local(owner[walls], points[walls])
    metres = local * solids.half[owner[walls]]
    across = np.where(np.abs(local[:, 0]) > np.abs(local[:, 1]), metres[:, 1], metres[:, 0])
    pattern = solids.pattern[owner[walls]]
    column = np.mod(across / (2.2 + 1.5 * pattern) + pattern, 1)
    row = np.mod((points[walls, 2] - 0.4) / (2.7 + 0.5 * pattern), 1)
    pane = (column > 0.28) & (column < 0.72) & (row > 0.35) & (row < 0.8) & (np.abs(local[:, 2]) < 0.99)
    part = part.copy()
    part[walls[pane]] = PART["window"]
    return part
