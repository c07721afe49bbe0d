"""Projection against recorded frames, whose calibrations and pixels are others' work."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.linalg import rq

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.projection import project
from tttkd_ros.geometry.rig import load_rig
from tttkd_ros.geometry.transforms import validated

ROOT = Path(__file__).parents[2]


def kitti_calibration(path):
    lines = (line.split(":") for line in path.read_text().splitlines() if ":" in line)
    return {name: np.array(values.split(), float) for name, values in lines}


def camera_and_extrinsics(p2, camera_from_velodyne, image):
    """KITTI's (3, 4) projection as a pinhole camera, whose offset goes into the extrinsics."""
    p2 = p2.reshape(3, 4)
    offset = np.eye(4)
    offset[:3, 3] = np.linalg.inv(p2[:, :3]) @ p2[:, 3]
    camera = CameraModel(image.shape[1], image.shape[0], p2[0, 0], p2[1, 1], p2[0, 2], p2[1, 2])
    return camera, offset @ camera_from_velodyne


def test_sun_rgbd_points_project_to_pixels_of_their_colour(shared_data):
    folder = shared_data("sunrgbd_000017")
    calibration = json.loads((folder / "calib.json").read_text())["images"]["CAM0"]
    cloud = np.fromfile(folder / "000017.bin", np.float32).reshape(-1, 6)
    image = cv2.cvtColor(cv2.imread(str(folder / "000017.jpg")), cv2.COLOR_BGR2RGB)
    k, rotation = rq(np.array(calibration["depth2img"]))
    signs = np.diag(np.sign(np.diag(k)))
    k, rotation = k @ signs, signs @ rotation
    k /= k[2, 2]
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation
    camera = CameraModel(calibration["width"], calibration["height"], k[0, 0], k[1, 1], k[0, 2], k[1, 2])

    projection = project(torch.from_numpy(cloud[:, :3].copy()), camera, validated(extrinsics), occlusion=False)

    assert projection.visible.float().mean() > 0.999
    seen = projection.visible.numpy()
    u, v = projection.pixels[projection.visible].round().long().numpy().T - 1  # the data set counts pixels from one
    assert np.corrcoef((image[v, u] / 255).ravel(), cloud[seen, 3:].ravel())[0, 1] > 0.9999


def test_kitti_points_project_as_by_its_matrices(shared_data):
    folder = shared_data("kitti_raw_2011_09_26_seq")
    calibration = kitti_calibration(folder / "calib.txt")
    rectify, velodyne = np.eye(4), np.eye(4)
    rectify[:3, :3], velodyne[:3] = calibration["R0_rect"].reshape(3, 3), calibration["Tr_velo_to_cam"].reshape(3, 4)
    cloud = np.fromfile(folder / "0000000000.bin", np.float32).reshape(-1, 4)[:, :3].copy()
    homogeneous = np.column_stack((cloud, np.ones(len(cloud)))) @ (rectify @ velodyne).T
    expected = homogeneous @ calibration["P2"].reshape(3, 4).T
    ahead = expected[:, 2] > 0
    expected = expected[:, :2] / expected[:, 2:]
    inside = ahead & ((expected >= 0) & (expected < (1242, 375))).all(1)

    rig = load_rig(ROOT / "config/rigs/kitti.yaml")["camera_front"]
    projection = project(torch.from_numpy(cloud), rig.camera, rig.camera_from_lidar, occlusion=False)

    assert (projection.visible.numpy() != inside).sum() < 5  # on the very edge
    both = projection.visible.numpy() & inside
    assert both.sum() > 15_000
    np.testing.assert_allclose(projection.pixels[both], expected[both], atol=0.02)


@pytest.mark.parametrize("camera, count", [("CAM_FRONT", 3067), ("CAM_BACK", 4826)])
def test_nuscenes_cameras_see_the_known_number_of_points(shared_data, camera, count):
    folder = shared_data("nuscenes_ca9a282c")
    calibration = json.loads((folder / "calib.json").read_text())
    cloud = np.fromfile(folder / calibration["lidar"]["lidar_path"], np.float32).reshape(-1, 5)[:, :3].copy()
    entry = calibration["cameras"][camera]
    k = np.array(entry["cam2img"])
    model = CameraModel(1600, 900, k[0, 0], k[1, 1], k[0, 2], k[1, 2])

    inside = project(torch.from_numpy(cloud), model, validated(entry["lidar2cam"]), occlusion=False).visible
    seen = project(torch.from_numpy(cloud), model, validated(entry["lidar2cam"])).visible

    assert inside.sum() == count
    assert 0.85 * count < seen.sum() < count


def test_occlusion_raises_the_colour_variance_explained_by_labels(shared_data):
    folder = shared_data("semantickitti_00_000000")
    calibration = kitti_calibration(folder / "calib.txt")
    image = cv2.imread(str(folder / "image_2_000000.png"))
    velodyne = np.eye(4)
    velodyne[:3] = calibration["Tr"].reshape(3, 4)
    camera, extrinsics = camera_and_extrinsics(calibration["P2"], velodyne, image)
    cloud = torch.from_numpy(np.fromfile(folder / "000000.bin", np.float32).reshape(-1, 4)[:, :3].copy())
    labels = np.fromfile(folder / "000000.label", np.uint32) & 0xFFFF

    def explained(occlusion):
        """Share of the colours' variance that knowing the label takes away."""
        projection = project(cloud, camera, extrinsics, occlusion=occlusion)
        u, v = projection.pixels[projection.visible].long().numpy().T
        colours, kinds = image[v, u].astype(float), labels[projection.visible.numpy()]
        groups = [colours[kinds == kind] for kind in np.unique(kinds)]
        within = sum(((group - group.mean(0)) ** 2).sum() for group in groups)
        return 1 - within / ((colours - colours.mean(0)) ** 2).sum()

    assert explained(True) > explained(False) + 0.02
