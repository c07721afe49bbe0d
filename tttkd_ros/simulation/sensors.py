"""Simulated sensors: grids of LiDAR beams and camera pixels, with presets of real sensors and mounts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tttkd_ros.geometry.camera import CameraModel

# Optical axes (x right, y down, z forward) in the LiDAR's (x forward, y left, z up).
OPTICAL_FROM_LIDAR = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class Lidar:
    """A spinning LiDAR, or the forward sector of one."""

    elevations: tuple[float, ...]  # degrees, highest beam first
    sector: float = 48.0  # degrees to either side, 180 for all around
    step: float = 0.4  # degrees between columns
    height: float = 1.73  # metres over the road
    max_range: float = 45.0  # metres
    noise: float = 0.02  # standard deviation of the range, metres
    dropout: float = 0.05  # share of returns lost at random, which grows with range
    tilt: float = 0.0  # degrees by which the beam plane is rolled, as on sensors that are not mounted level

    @cached_property
    def _azimuth(self) -> np.ndarray:
        return np.deg2rad(np.arange(self.sector, -self.sector - 1e-9, -self.step)).astype(np.float32)

    @cached_property
    def _elevation(self) -> np.ndarray:
        return np.deg2rad(np.array(self.elevations, np.float32))

    @cached_property
    def directions(self) -> np.ndarray:
        """(3, beams, columns) float32 unit vectors."""
        elevation = self._elevation[:, None] + np.deg2rad(self.tilt) * np.sin(2 * self._azimuth)[None]
        azimuth = np.broadcast_to(self._azimuth, elevation.shape)
        level = np.cos(elevation)
        return np.stack((level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation))).astype(np.float32)

    def beams(self, points: np.ndarray) -> np.ndarray:
        """Find the beam (N,) of points (N, 3) in the LiDAR frame, 0 for the highest. Noise along the ray is allowed."""
        x, y, z = points.T
        elevation = np.arctan2(z, np.hypot(x, y)) - np.deg2rad(self.tilt) * np.sin(2 * np.arctan2(y, x))
        boundaries = (self._elevation[1:] + self._elevation[:-1]) / 2
        return np.searchsorted(-boundaries, -elevation)

    def windows(self, corners: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(corners, 2, 0)
        azimuth, elevation = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
        slack = np.deg2rad(self.step + 0.2)
        columns = (np.searchsorted(-self._azimuth, -(azimuth.max(1) + slack)),
                   np.searchsorted(-self._azimuth, -(azimuth.min(1) - slack)))
        # The middle of a near face appears higher (or lower) than its corners.
        lift = np.maximum(np.abs(elevation).max(1) * 0.5, np.deg2rad(0.5)) + abs(np.deg2rad(self.tilt))
        rows = (np.searchsorted(-self._elevation, -(elevation.max(1) + lift)),
                np.searchsorted(-self._elevation, -(elevation.min(1) - lift)))
        windows = np.stack((*rows, *columns), 1)
        # A solid beside or around the sensor wraps past +-180 degrees: cast every ray.
        windows[(x.min(1) < 0.5) & (x.max(1) > 0)] = (0, len(self.elevations), 0, len(self._azimuth))
        if self.sector <= 90:
            windows[x.max(1) <= 0] = 0
        else:
            windows[(x.max(1) <= 0) & (y.min(1) < 0) & (y.max(1) > 0), 2:] = (0, len(self._azimuth))
        return windows


@dataclass(frozen=True)
class Camera:
    """An undistorted pinhole camera.

    yaw: degrees by which it looks to the left of ahead."""

    name: str = "camera_front"
    width: int = 392
    height: int = 140
    fov: float = 72.0  # degrees across the width
    position: tuple[float, float, float] = (0.27, 0.0, -0.08)  # metres, LiDAR frame
    yaw: float = 0.0

    @cached_property
    def model(self) -> CameraModel:
        focal = self.width / 2 / np.tan(np.deg2rad(self.fov / 2))
        return CameraModel(self.width, self.height, focal, focal, self.width / 2, self.height / 2)

    @cached_property
    def camera_from_lidar(self) -> np.ndarray:
        """(4, 4) float64."""
        pose = np.eye(4)
        cos, sin = np.cos(np.deg2rad(self.yaw)), np.sin(np.deg2rad(self.yaw))
        pose[:3, :3] = OPTICAL_FROM_LIDAR @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        pose[:3, 3] = -pose[:3, :3] @ np.array(self.position)
        return pose

    @cached_property
    def directions(self) -> np.ndarray:
        """(3, height, width) float32 rays through the pixels' centres, scaled to depth 1."""
        u, v = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        model = self.model
        return np.stack(((u - model.cx) / model.fx, (v - model.cy) / model.fy, np.ones_like(u))).astype(np.float32)

    def windows(self, corners: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(corners, 2, 0)
        model = self.model
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = x / z * model.fx + model.cx, y / z * model.fy + model.cy
        u, v = np.nan_to_num(u, posinf=1e6, neginf=-1e6), np.nan_to_num(v, posinf=1e6, neginf=-1e6)
        bounds = np.stack((v.min(1), v.max(1) + 1, u.min(1), u.max(1) + 1), 1)
        windows = np.clip(bounds, 0, (self.height, self.height, self.width, self.width)).astype(int)
        straddles = (z.min(1) < 0.1) & (z.max(1) > 0.1)
        windows[straddles] = (0, self.height, 0, self.width)
        windows[z.max(1) <= 0.1] = 0
        return windows


def _beams(top: float, bottom: float, count: int) -> tuple[float, ...]:
    return tuple(np.linspace(top, bottom, count).round(3).tolist())


LIDARS = {
    # Few beams, tilted and mounted low, like two overlapping 16-beam sensors of A2D2.
    "a2d2": Lidar(_beams(5, -21, 26), step=0.5, height=1.45, noise=0.01, dropout=0.02, tilt=2.0),
    # The HDL-64E: its upper half is twice as dense as its lower one.
    "kitti": Lidar((*_beams(2, -8.33, 32), *_beams(-8.83, -24.33, 32)), step=0.35, noise=0.04, dropout=0.15),
    # The HDL-32E.
    "nuscenes": Lidar(_beams(10.67, -30.67, 32), height=1.84, dropout=0.08),
}
