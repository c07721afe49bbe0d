"""Project 120,000 points into six cameras, compared with OpenCV's projectPoints in a loop over the cameras.

The cameras look outwards, 60 degrees apart, all of one kind: 1600 x 900 pixels, perspective with and without distortion
(65 degrees wide), or fisheye (180 degrees wide, compared with cv2.fisheye.projectPoints). `project` also finds which
points are in front of the camera, inside the image and, with occlusion, not behind a nearer surface. OpenCV computes
pixels only, also of points behind the camera. Both use one thread and float32 points.

Aim: at least 5 times as fast as cv2.projectPoints.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from common import Rows, command, medians, one_thread, spinning_lidar, table
from rich.table import Table

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.projection import project
from tttkd_ros.simulation.sensors import OPTICAL_FROM_LIDAR

SIZE = (1600, 900, 1260.0, 1260.0, 800.0, 450.0)
CAMERAS = {
    "pinhole": CameraModel(*SIZE),
    "plumb_bob": CameraModel(*SIZE, "plumb_bob", (-0.3, 0.1, 0.001, -0.001, -0.02)),
    "rational": CameraModel(*SIZE, "rational_polynomial", (0.3, -0.1, 0.001, -0.0005, 0.01, 0.6, -0.05, 0.01)),
    "fisheye": CameraModel(1600, 900, 500.0, 500.0, 800.0, 450.0, "equidistant", (-0.02, 0.005, -0.002, 0.0003)),
}


def run(quick: bool = False) -> Rows:
    """One row for each kind of camera.

    Args:
        quick: Run briefly, only to check that it works.
    """
    points, rounds = spinning_lidar(2_000 if quick else 120_000), 3 if quick else 30
    with one_thread():
        return [_row(name, camera, points, rounds) for name, camera in CAMERAS.items()]


def show(rows: Rows) -> Table:
    return table(
        f"{rows[0]['points']:,} points into six cameras, ms; aim: 5 times as fast as OpenCV",
        rows,
        {
            "": ("camera", ""), "OpenCV": ("opencv_ms", ".1f"), "ours": ("ms", ".1f"), "faster": ("faster", ".1f"),
            "with occlusion": ("occlusion_ms", ".1f"), "faster ": ("occlusion_faster", ".1f"),
            "points seen": ("seen", ".0%"),
        },
    )  # fmt: skip


def _row(name: str, camera: CameraModel, points: np.ndarray, rounds: int) -> dict:
    rig = [_outward(np.radians(60 * number)) for number in range(6)]
    tensor, turns = torch.from_numpy(points), [cv2.Rodrigues(pose[:3, :3])[0] for pose in rig]
    distortion = np.array(camera.distortion) if camera.distortion else None

    def opencv(_):
        for pose, turn in zip(rig, turns, strict=True):
            if camera.is_fisheye:
                cv2.fisheye.projectPoints(points[:, None], turn, pose[:3, 3], camera.matrix, distortion)
            else:
                cv2.projectPoints(points, turn, pose[:3, 3], camera.matrix, distortion)

    def ours(occlusion):
        return [project(tensor, camera, pose, occlusion=occlusion) for pose in rig]

    seconds = medians({"opencv": opencv, "ours": lambda _: ours(False), "occlusion": lambda _: ours(True)}, rounds)
    return {
        "camera": name, "points": len(points), "opencv_ms": seconds["opencv"] * 1e3,
        "ms": seconds["ours"] * 1e3, "faster": seconds["opencv"] / seconds["ours"],
        "occlusion_ms": seconds["occlusion"] * 1e3, "occlusion_faster": seconds["opencv"] / seconds["occlusion"],
        "seen": float(np.mean([seen.visible.float().mean() for seen in ours(False)])),
    }  # fmt: skip


def _outward(angle: float) -> np.ndarray:
    """(4, 4) camera from LiDAR, of a camera half a metre from the LiDAR's axis that looks outwards."""
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, :3] = OPTICAL_FROM_LIDAR @ turn
    pose[:3, 3] = -OPTICAL_FROM_LIDAR @ (0.5, 0.0, -0.3)
    return pose


if __name__ == "__main__":
    command("projection", __doc__, run, show)
