"""Small folders in the layouts of the data sets' downloads."""

from __future__ import annotations

import json

import numpy as np
import pytest
from outdoor_folders import P2, write_a2d2, write_image, write_semantickitti
from waymo_segment import write_segment


def write_sweep(path, index, points=5, columns=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(index).normal(size=(points, columns)).astype("<f4")
    values.tofile(path)
    return values


@pytest.fixture
def semantickitti(tmp_path):
    """`semantickitti(sweeps)`: a folder with sequence 03, whose sweeps have five points of instance 7 each."""

    def make(sweeps: int = 3):
        clouds = [np.random.default_rng(index).normal(size=(5, 4)) for index in range(sweeps)]
        write_semantickitti(tmp_path / "dataset", "03", clouds, [np.array([10, 252, 40, 0, 16]) | 7 << 16] * sweeps)
        return tmp_path / "dataset"

    return make


@pytest.fixture
def kitti_drive(tmp_path):
    """A raw drive of three frames, northwards at 10 m/s. The second frame has no sweep."""
    drive = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    times = [f"2011-09-26 13:02:25.{index}00000001" for index in range(3)]
    for name, delay in (("velodyne_points", "1"), ("image_02", "3"), ("oxts", "2")):
        (drive / name / "data").mkdir(parents=True)
        (drive / name / "timestamps.txt").write_text("\n".join(time[:-1] + delay for time in times) + "\n")
    for index in range(3):
        write_image(drive / "image_02" / "data" / f"{index:010}.png", index)
        if index != 1:
            write_sweep(drive / "velodyne_points" / "data" / f"{index:010}.bin", index)
        north = 49.0 + np.degrees(index / 6378137.0)
        numbers = [north, 8.0, 116.0, 0.0, 0.0, np.pi / 2] + [0.0] * 24  # heading north: yaw is relative to east
        (drive / "oxts" / "data" / f"{index:010}.txt").write_text(" ".join(f"{value:.12f}" for value in numbers))
    rectify = "1 0 0 0 1 0 0 0 1"
    (drive.parent / "calib_cam_to_cam.txt").write_text(
        f"calib_time: 09-Jan-2012 13:57:47\nP_rect_02: {P2}\nR_rect_00: {rectify}\n"
    )
    (drive.parent / "calib_velo_to_cam.txt").write_text("R: 0 -1 0 0 0 -1 1 0 0\nT: 0 -0.1 -0.3\n")
    (drive.parent / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n")
    return drive


@pytest.fixture
def nuscenes(tmp_path):
    """`nuscenes(scenes)`: tables and files of scenes with two keyframes each, two cameras and lidarseg.

    The vehicle drives along its x axis at 10 m/s. Cameras are 20 ms before the LiDAR. One sweep is no keyframe.
    """

    def make(scenes: int = 1):
        folder = tmp_path / "nuscenes"
        tables = {name: [] for name in ("scene", "sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose",
                                        "category", "lidarseg")}
        names = ["noise", "vehicle.car", "flat.driveable_surface", "static.manmade", "vehicle.bus.rigid"]
        tables["category"] = [{"token": name, "name": name, "index": index} for index, name in enumerate(names)]
        channels = {"LIDAR_TOP": 0, "CAM_FRONT": -20_000, "CAM_BACK": -20_000}
        rotations = {"LIDAR_TOP": [1, 0, 0, 0], "CAM_FRONT": [0.5, -0.5, 0.5, -0.5], "CAM_BACK": [0.5, -0.5, -0.5, 0.5]}
        for channel in channels:
            tables["sensor"].append({"token": f"sensor {channel}", "channel": channel})
            tables["calibrated_sensor"].append({
                "token": f"place {channel}", "sensor_token": f"sensor {channel}", "translation": [1.0, 0.0, 1.5],
                "rotation": rotations[channel],
                "camera_intrinsic": [] if channel == "LIDAR_TOP" else [[5.0, 0, 4], [0, 5.0, 3], [0, 0, 1]],
            })
        for number in range(scenes):
            tables["scene"].append({"token": f"scene {number}", "name": f"scene-000{number}"})
            for index, key in ((1, True), (0, True), (2, False)):  # tables have no order
                start = 1_532_402_927_647_951 + 20_000_000 * number + 500_000 * index
                sample = f"sample {number} {min(index, 1)}"
                if key:
                    tables["sample"].append({"token": sample, "timestamp": start, "scene_token": f"scene {number}"})
                for channel, delay in channels.items():
                    token, stamp = f"{channel} {number} {index}", start + delay
                    name = f"samples/{channel}/{number}_{index}" + (".pcd.bin" if delay == 0 else ".jpg")
                    tables["ego_pose"].append({"token": token, "timestamp": stamp, "rotation": [1, 0, 0, 0],
                                               "translation": [400 + 1e-5 * (stamp - start + 500_000 * index), 0, 0]})
                    tables["sample_data"].append({
                        "token": token, "sample_token": sample, "ego_pose_token": token, "is_key_frame": key,
                        "calibrated_sensor_token": f"place {channel}", "timestamp": stamp, "filename": name,
                    })
                    if delay == 0:
                        write_sweep(folder / name, index, columns=5)
                        if key:
                            labels = f"lidarseg/{token}.bin"
                            (folder / "lidarseg").mkdir(exist_ok=True)
                            np.arange(5, dtype=np.uint8).tofile(folder / labels)
                            tables["lidarseg"].append({"token": token, "sample_data_token": token, "filename": labels})
                    else:
                        write_image(folder / name, index)
        (folder / "v1.0-mini").mkdir()
        for name, rows in tables.items():
            (folder / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows, indent=0))
        return folder

    return make


@pytest.fixture
def a2d2(tmp_path):
    """A folder with one recording of two frames.

    Six points lie at columns 30 to 80 of row 40 of the undistorted image, 10 m away. The label image is red ("Car 1")
    left of the undistorted column 55, and magenta ("RD normal street") right of it.
    """
    columns = np.arange(30.0, 81.0, 10.0)
    points = np.column_stack([np.full(6, 10.0), -(columns - 60) / 10, np.zeros(6)])
    write_a2d2(tmp_path / "a2d2", "20180807_145028", [points] * 2)
    return tmp_path / "a2d2"


@pytest.fixture
def labelled_folders(tmp_path):
    """Two sequences of SynLiDAR's layout with two sweeps of five points each, and classes.yaml."""
    folder = tmp_path / "synlidar"
    for sequence in ("00", "01"):
        (folder / sequence / "labels").mkdir(parents=True)
        for index in range(2):
            write_sweep(folder / sequence / "velodyne" / f"{index:06}.bin", index)
            np.array([1, 2, 0, 1, 2], "<u4").tofile(folder / sequence / "labels" / f"{index:06}.label")
    (folder / "classes.yaml").write_text("0: unlabelled\n1: car\n2: road\n")
    return folder


@pytest.fixture
def waymo(tmp_path):
    """`waymo(frames)`: a folder with a segment of Waymo's, see `write_segment`."""

    def make(frames: int = 3):
        write_segment(tmp_path / "waymo", frames)
        return tmp_path / "waymo"

    return make
