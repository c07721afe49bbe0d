"""Recordings of every data set: one file of each input is damaged."""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from waymo_segment import write_segment

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.datasets.a2d2 import open_recording as open_a2d2
from tttkd_ros.datasets.kitti import open_recording as open_kitti
from tttkd_ros.datasets.label_files import LabelFiles
from tttkd_ros.datasets.labels import open_recording as open_labels
from tttkd_ros.datasets.nuscenes import open_recording as open_nuscenes
from tttkd_ros.datasets.semantickitti import open_recording as open_semantickitti
from tttkd_ros.datasets.waymo import open_recording as open_waymo

from .conftest import check_frame

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 255, (24, 32, 3), np.uint8)
PNG, JPEG = (cv2.imencode(kind, PIXELS)[1].tobytes() for kind in (".png", ".jpg"))
SWEEP = GENERATOR.random((10, 4), np.float32).tobytes()
P2 = "7.2e+02 0 1.6e+01 4.4e+01 0 7.2e+02 1.2e+01 2.1e-01 0 0 1 2.7e-03"
ROTATION = "0 -1 0 0 0 -1 1 0 0"
TIMES = "2011-09-26 13:02:25.964389445\n2011-09-26 13:02:26.064389445\n"
KITTI_FOLDER = {
    "calib.txt": f"P2: {P2}\nR0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n",
    "0000000000.bin": SWEEP,
    "0000000000.png": PNG,
}
KITTI_DRIVE = {
    "calib_cam_to_cam.txt": f"P_rect_02: {P2}\nR_rect_00: 1 0 0 0 1 0 0 0 1\n",
    "calib_velo_to_cam.txt": f"R: {ROTATION}\nT: 0 -0.08 -0.27\n",
    "calib_imu_to_velo.txt": "R: 1 0 0 0 1 0 0 0 1\nT: -0.81 0.32 -0.8\n",
    "drive/velodyne_points/timestamps.txt": TIMES,
    "drive/velodyne_points/data/0000000001.bin": SWEEP,
    "drive/image_02/timestamps.txt": TIMES,
    "drive/image_02/data/0000000001.png": PNG,
    "drive/oxts/timestamps.txt": TIMES,
    "drive/oxts/data/0000000000.txt": "49.0 8.4 116.4 0.035 0.004 -2.6",
    "drive/oxts/data/0000000001.txt": "49.00001 8.4 116.4 0.035 0.004 -2.6",
}
LABELS = np.array([10, 252, 40, 0, 16, 70, 80, 30, 1, 99], "<u4")
SEMANTIC_KITTI = {
    "calib.txt": f"P0: {P2}\nP2: {P2}\nTr: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n",
    "times.txt": "0.000000e+00\n1.035e-01\n",
    "poses.txt": "1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 9.7e-01\n",
    "velodyne/000001.bin": SWEEP,
    "image_2/000001.png": PNG,
    "labels/000001.label": (LABELS | 7 << 16).tobytes(),
}


def nuscenes() -> dict[str, bytes]:
    """A keyframe with two cameras and lidarseg."""
    files, names = {}, ["noise", "vehicle.car", "flat.driveable_surface", "static.manmade", "vehicle.bus.rigid"]
    tables = {
        "scene": [{"token": "scene", "name": "scene-0001"}],
        "sample": [{"token": "sample", "timestamp": 1_532_402_927_647_951, "scene_token": "scene"}],
        "sample_data": [], "calibrated_sensor": [], "sensor": [], "ego_pose": [],
        "category": [{"name": name, "index": index} for index, name in enumerate(names)],
        "lidarseg": [{"sample_data_token": "LIDAR_TOP", "filename": "lidarseg/LIDAR_TOP.bin"}],
    }  # fmt: skip
    for channel in ("LIDAR_TOP", "CAM_FRONT", "CAM_BACK"):
        lidar = channel == "LIDAR_TOP"
        place = {"token": channel, "translation": [1.0, 0.0, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5]}
        name = f"samples/{channel}/0.{'pcd.bin' if lidar else 'jpg'}"
        intrinsic = [] if lidar else [[5.0, 0, 16], [0, 5.0, 12], [0, 0, 1]]
        tables["sensor"].append({"token": channel, "channel": channel})
        tables["calibrated_sensor"].append(place | {"sensor_token": channel, "camera_intrinsic": intrinsic})
        tables["ego_pose"].append(place)
        tables["sample_data"].append({
            "token": channel, "sample_token": "sample", "ego_pose_token": channel, "calibrated_sensor_token": channel,
            "is_key_frame": True, "timestamp": 1_532_402_927_647_951 - 20_000 * (not lidar), "filename": name,
        })
        files[name] = GENERATOR.random((5, 5), np.float32).tobytes() if lidar else JPEG
    files["lidarseg/LIDAR_TOP.bin"] = bytes(range(5))
    return files | {f"v1.0-mini/{name}.json": json.dumps(rows).encode() for name, rows in tables.items()}


def a2d2() -> dict[str, bytes]:
    """Ten points 10 m away."""
    view = {"origin": [1.7, 0.0, 0.94], "x-axis": [0.9998, -0.02, 0.0], "y-axis": [0.02, 0.9998, 0.0]}
    matrix = [[20.0, 0, 16], [0, 20.0, 12], [0, 0, 1]]
    camera = {"Lens": "Telecam", "CamMatrix": matrix, "CamMatrixOriginal": matrix, "Distortion": [[-0.3, 0, 0, 0, 0]],
              "Resolution": [32, 24], "view": view}
    names = list(OUTDOOR.groups["a2d2"])
    columns, rows = np.arange(10.0, 20), np.full(10, 12.0)
    arrays = {"points": np.column_stack([np.full(10, 10.0), (16 - columns) / 2, np.zeros(10)]), "row": rows,
              "reflectance": np.arange(10), "col": columns}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return {
        "cams_lidars.json": json.dumps({"cameras": {"front_center": camera}}).encode(),
        "class_list.json": json.dumps({f"#{index:06x}": name for index, name in enumerate(names)}).encode(),
        "camera/cam_front_center/1_camera_frontcenter_0.png": PNG,
        "camera/cam_front_center/1_camera_frontcenter_0.json":
            json.dumps({"cam_tstamp": 1_533_653_428_000_000, "pcld_view": view}).encode(),
        "lidar/cam_front_center/1_lidar_frontcenter_0.npz": file.getvalue(),
        "label/cam_front_center/1_label_frontcenter_0.png": PNG,
    }  # fmt: skip


def waymo() -> dict[str, bytes]:
    """Two frames of eight points."""
    with TemporaryDirectory() as folder:
        write_segment(Path(folder), 2)
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*.parquet"))}


LABEL_FOLDER = {"00/velodyne/0.bin": SWEEP, "00/labels/0.label": LABELS.tobytes(),
                "classes.yaml": b"".join(b"%d: unlabelled\n" % label for label in sorted({*LABELS.tolist()}))}

DATA_SETS = {
    "kitti folder": (KITTI_FOLDER, ".", open_kitti),
    "kitti drive": (KITTI_DRIVE, "drive", open_kitti),
    "semantickitti": (SEMANTIC_KITTI, ".", open_semantickitti),
    "nuscenes": (nuscenes(), ".", open_nuscenes),
    "a2d2": (a2d2(), ".", open_a2d2),
    "waymo": (waymo(), ".", open_waymo),
    "labels": (LABEL_FOLDER, ".", open_labels),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_damaged_recordings(fuzz_files, name):
    files, start, open_recording = DATA_SETS[name]

    def read(folder: Path) -> None:
        recording = open_recording(folder / start)
        for recorded in (recording[index] for index in range(len(recording))):
            check_frame(recorded.frame)
            assert all(np.isfinite(pose).all() for _, pose in recorded.poses)

    fuzz_files(files, read)


@pytest.mark.parametrize("by", ["number", "stamp"])
def test_damaged_label_files(fuzz_files, drive, by):
    labels = np.resize(LABELS, len(drive[0].points)).tobytes()
    names = [frame.stamp if by == "stamp" else index for index, frame in enumerate(drive)]

    def read(folder: Path) -> None:
        for frame in LabelFiles(folder, len(drive), OUTDOOR).truth(iter(drive)):
            assert frame.labels.shape == (len(frame.points),)

    fuzz_files({f"{name}.label": labels for name in names}, read)
