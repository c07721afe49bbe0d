"""Cast a sensor's grid of rays at analytic solids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

BOX, ELLIPSOID, CYLINDER = 0, 1, 2
GROUND, NOTHING = -2, -1
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)


@dataclass(frozen=True, eq=False)
class Solids:
    """M solids in the world frame, rotated about the vertical axis only."""

    kind: np.ndarray  # (M,) BOX, ELLIPSOID or CYLINDER (upright)
    centre: np.ndarray  # (M, 3) metres
    half: np.ndarray  # (M, 3) metres
    yaw: np.ndarray  # (M,) radians
    part: np.ndarray  # (M,) indices into `PARTS`
    colour: np.ndarray  # (M, 3) 0..1
    pattern: np.ndarray  # (M,) random numbers in 0..1 that offset the textures

    def corners(self) -> np.ndarray:
        """(M, 8, 3) corners of the bounding boxes, world frame."""
        x, y, z = np.moveaxis(_CORNERS * self.half[:, None], 2, 0)
        cos, sin = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        return np.stack((cos * x - sin * y, sin * x + cos * y, z), 2) + self.centre[:, None]

    def local(self, index: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Transform world points (K, 3) into the frames of their solids `index` (K,), with faces at -1 and 1."""
        x, y, z = (points - self.centre[index]).T
        cos, sin = np.cos(self.yaw[index]), np.sin(self.yaw[index])
        return np.stack((cos * x + sin * y, cos * y - sin * x, z), 1) / self.half[index]


@dataclass(frozen=True, eq=False)
class Hits:
    """First hits of a sensor's rays."""

    distance: np.ndarray  # (rows, columns) in multiples of a ray's direction
    index: np.ndarray  # (rows, columns) of the solid, or `GROUND` or `NOTHING`
    part: np.ndarray  # (rows, columns) indices into `PARTS`
    points: np.ndarray  # (rows, columns, 3) world frame
    directions: np.ndarray  # (rows, columns, 3) world frame


class RayGrid(Protocol):
    """A sensor whose rays form a grid."""

    directions: np.ndarray  # (3, rows, columns) float32 in the sensor frame

    def windows(self, corners: np.ndarray) -> np.ndarray:
        """Bound the rays that may hit boxes with these corners (M, 8, 3), metres, sensor frame.

        Returns (M, 4) int: first row, last row + 1, first column, last column + 1."""


def cast(grid: RayGrid, rotation: np.ndarray, origin: np.ndarray, solids: Solids,
         max_range: float) -> tuple[np.ndarray, np.ndarray]:
    """Find the first hit of every ray of a sensor at `origin` (3,), metres; `rotation` (3, 3) is world from sensor.

    Returns the range in multiples of a ray's (unscaled) direction, like `max_range`, and the solid's index, both (rows,
    columns); `max_range` and `NOTHING` if a ray hits no solid.
    """
    directions = np.einsum("ij,jrc->irc", rotation.astype(np.float32), grid.directions)
    nearest = np.full(directions.shape[1:], max_range, np.float32)
    hit = np.full(directions.shape[1:], NOTHING, np.int32)
    windows = grid.windows((solids.corners() - origin.astype(np.float32)) @ rotation.astype(np.float32))
    relative = (origin - solids.centre).astype(np.float32)
    in_range = np.linalg.norm(relative, axis=1) - np.linalg.norm(solids.half, axis=1) < max_range
    cos, sin = np.cos(solids.yaw), np.sin(solids.yaw)
    for i in np.flatnonzero(in_range & (windows[:, 0] < windows[:, 1]) & (windows[:, 2] < windows[:, 3])):
        rows, columns = slice(windows[i, 0], windows[i, 1]), slice(windows[i, 2], windows[i, 3])
        dx, dy, dz = directions[:, rows, columns]
        hx, hy, hz = solids.half[i]
        ox, oy, oz = relative[i]
        start = ((cos[i] * ox + sin[i] * oy) / hx, (cos[i] * oy - sin[i] * ox) / hy, oz / hz)
        ray = ((cos[i] * dx + sin[i] * dy) / hx, (cos[i] * dy - sin[i] * dx) / hy, dz / hz)
        distance = _INTERSECT[solids.kind[i]](start, ray)
        window = nearest[rows, columns]
        closer = distance < window
        window[closer] = distance[closer]
        hit[rows, columns][closer] = i
    return nearest, hit


def _box(start, ray) -> np.ndarray:
    entry, leave = -np.inf, np.inf
    with np.errstate(divide="ignore", invalid="ignore"):  # fmax and fmin drop the NaN of a ray along a face
        for o, d in zip(start, ray, strict=True):
            middle, width = -o / d, 1 / np.abs(d)
            entry, leave = np.fmax(entry, middle - width), np.fmin(leave, middle + width)
    return np.where((entry < leave) & (entry > 0), entry, np.inf)


def _quadric(start, ray) -> np.ndarray:
    a = sum(d * d for d in ray)
    b = sum(o * d for o, d in zip(start, ray, strict=True))
    c = sum(o * o for o in start) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = (-b - np.sqrt(b * b - a * c)) / a  # NaN if the ray misses
    return np.where(distance > 0, distance, np.inf)


def _cylinder(start, ray) -> np.ndarray:
    distance = _quadric(start[:2], ray[:2])
    with np.errstate(invalid="ignore"):
        height = start[2] + distance * ray[2]
    return np.where(np.abs(height) < 1, distance, np.inf)


_INTERSECT = {BOX: _box, ELLIPSOID: _quadric, CYLINDER: _cylinder}
