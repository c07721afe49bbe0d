"""Measure the projection error of a moving vehicle, without and with compensation.

A simulated street is frozen and passed on an analytic trajectory. Each point is measured at its own instant of a sweep
of 0.1 s, without noise. Its true pixel is that of an image taken 40 ms after the sweep's stamp. Odometry arrives at
50 Hz and covers the sweep, as in a bag, or ends at its stamp, as it may live.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from common import Rows, command, table
from rich.table import Table
from scipy.spatial.transform import Rotation

from tttkd_ros.geometry.trajectory import Trajectory, deskew
from tttkd_ros.geometry.transforms import apply, inverse
from tttkd_ros.messages.stamps import SECOND
from tttkd_ros.simulation.drive import START, DriveProfile, frames
from tttkd_ros.simulation.sensors import Camera

MOTIONS = {"10 m/s": (10.0, 0.0), "20 m/s": (20.0, 0.0), "10 m/s, 0.5 rad/s": (10.0, 0.5)}  # speed, rate of turn
DESKEWED = ("deskewed only", "both", "both, odometry ends at the stamp")
SWEEP_S, IMAGE_S, ODOMETRY_S = 0.1, 0.04, 0.02
CAMERA = Camera(width=1242, height=375, fov=81.0)  # KITTI's


def run(quick: bool = False, sweeps: int = 5, seed: int = 0) -> Rows:
    """Return the pixel errors (median, p95) of the visible points, by motion and method.

    Args:
        quick: Run briefly, only to check that it works.
        sweeps: Simulated sweeps, two seconds apart.
        seed: Of the simulated street.
    """
    sweeps = 1 if quick else sweeps
    deskewing = deskew_ms(1000, 1) if quick else deskew_ms()
    still = [frame.points for frame in frames("kitti", seed, sweeps, DriveProfile(period=2.0))]
    rows = []
    for name, (speed, turn) in MOTIONS.items():
        errors: dict[str, list[np.ndarray]] = {}
        for points in still:
            for method, found in _errors(points, speed, turn).items():
                errors.setdefault(method, []).append(found)
        for method, found in errors.items():
            found = np.concatenate(found)
            median, p95 = np.percentile(found, (50, 95)).tolist()
            rows.append({
                "motion": name, "method": method, "median_px": median, "p95_px": p95, "points": len(found),
                "deskew_ms": deskewing if method in DESKEWED else 0.0,
            })  # fmt: skip
    return rows


def show(rows: Rows) -> Table:
    return table(
        "Projection error with the vehicle's motion, image 1242 pixels wide",
        rows,
        {
            "motion": ("motion", ""), "compensation": ("method", ""), "median px": ("median_px", ".2f"),
            "p95 px": ("p95_px", ".2f"), "ms for 120,000 points": ("deskew_ms", ".1f"),
        },
    )  # fmt: skip


def deskew_ms(points: int = 120_000, repetitions: int = 20) -> float:
    """Return the median milliseconds to deskew a cloud."""
    draw = np.random.default_rng(0)
    cloud = draw.uniform(-50, 50, (points, 3)).astype(np.float32)
    times, way = np.sort(draw.uniform(0, SWEEP_S, points)), _odometry(20.0, 0.5, SWEEP_S)
    took = []
    for _ in range(repetitions):
        before = time.perf_counter()
        deskew(cloud, times, START, way)
        took.append((time.perf_counter() - before) * 1e3)
    return float(np.median(took))


def _errors(points: np.ndarray, speed: float, turn: float) -> dict[str, np.ndarray]:
    """points (N, 3): where everything stands, in the LiDAR frame at the sweep's stamp. Pixels off, by method."""
    azimuth = np.arctan2(points[:, 1], points[:, 0])
    times = (azimuth.max() - azimuth) / np.ptp(azimuth) * SWEEP_S  # from the left to the right
    inverses = np.linalg.inv(np.stack([_pose(t, speed, turn) for t in times]))
    measured = (np.einsum("nij,nj->ni", inverses[:, :3, :3], points) + inverses[:, :3, 3]).astype(np.float32)
    stamp, image = START, START + round(IMAGE_S * SECOND)
    static = CAMERA.camera_from_lidar
    right = _pixels(static @ inverse(_pose(IMAGE_S, speed, turn)), points)
    whole, late = _odometry(speed, turn, SWEEP_S), _odometry(speed, turn, 0.0)
    moved = static @ whole.between(image, stamp)
    methods = {
        "none": (static, measured),
        "image time only": (moved, measured),
        "deskewed only": (static, deskew(measured, times, stamp, whole)),
        "both": (moved, deskew(measured, times, stamp, whole)),
        "both, odometry ends at the stamp": (static @ late.between(image, stamp), deskew(measured, times, stamp, late)),
    }
    seen = np.isfinite(right).all(1)
    found = {}
    for method, (camera_from_lidar, cloud) in methods.items():
        off = np.linalg.norm(_pixels(camera_from_lidar, cloud) - right, axis=1)[seen]
        found[method] = off[np.isfinite(off)]  # what is projected outside the image has no pixel to compare
    return found


def _pixels(camera_from_lidar: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 2), NaN where the camera does not see the point."""
    pixels, inside = CAMERA.model.project(apply(camera_from_lidar, torch.tensor(points, dtype=torch.float64)))
    return torch.where(inside[:, None], pixels, torch.nan).numpy()


def _odometry(speed: float, turn: float, until: float) -> Trajectory:
    times = np.arange(round(-0.1 / ODOMETRY_S), round(until / ODOMETRY_S) + 1) * ODOMETRY_S
    return Trajectory(START + np.rint(times * SECOND).astype(np.int64), [_pose(t, speed, turn) for t in times])


def _pose(seconds: float, speed: float, turn: float) -> np.ndarray:
    """(4, 4) of a vehicle on a circle, or straight on."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0, 0, turn * seconds]).as_matrix()
    angle = turn * seconds
    pose[0, 3] = speed * seconds * np.sinc(angle / np.pi)
    pose[1, 3] = speed * seconds * np.sinc(angle / 2 / np.pi) * np.sin(angle / 2)
    return pose


if __name__ == "__main__":
    command("motion", __doc__, run, show)
