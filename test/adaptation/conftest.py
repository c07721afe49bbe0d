"""A toy world: a floor and a wall before a camera, and a teacher that tells the image's upper half from its lower."""

import copy

import numpy as np
import pytest
import torch

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.segmenter.student import Student, StudentConfig

CAMERA = CameraModel(width=80, height=40, fx=40.0, fy=40.0, cx=40.0, cy=20.0)
# LiDAR: x forward, y left, z up. Camera: x right, y down, z forward.
CAMERA_FROM_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


class ToyTeacher:
    """Feature of a patch: the mean colour of the image's upper or lower half, times fixed random directions."""

    dim, grid = 6, (4, 8)

    def __init__(self):
        self.calls = 0
        self._directions = torch.randn(3, self.dim, generator=torch.Generator().manual_seed(1))

    def __call__(self, images):
        self.calls += 1
        pixels = torch.stack([torch.tensor(image) for image in images]).float() / 255  # (B, H, W, 3)
        colours = torch.nn.functional.adaptive_avg_pool2d(pixels.permute(0, 3, 1, 2), self.grid).permute(0, 2, 3, 1)
        return colours @ self._directions


def toy_image(upper=(255, 0, 0), lower=(0, 0, 255)):
    image = np.empty((40, 80, 3), np.uint8)
    image[:20], image[20:] = upper, lower
    return image


def toy_frame(stamp=0, seed=0, views=None, camera_name="front"):
    random = np.random.default_rng(seed)
    floor = random.uniform([2, -5, -1.5], [10, 5, -1.5], (300, 3))
    wall = random.uniform([10, -5, -1.5], [10, 5, 4], (300, 3))
    behind = random.uniform([-10, -5, -1.5], [-2, 5, 3], (100, 3))
    points = np.concatenate([floor, wall, behind]).astype(np.float32)
    if views is None:
        views = (View(camera_name, stamp, toy_image(), CAMERA, CAMERA_FROM_LIDAR),)
    return Frame(stamp, points, tuple(views))


@pytest.fixture
def teacher():
    return ToyTeacher()


@pytest.fixture
def make_frame():
    return toy_frame


@pytest.fixture(scope="session")
def settled_student():
    torch.manual_seed(0)
    config = StudentConfig(voxel_size=0.3, base_channels=8, levels=3, head_width=8, teacher_dim=6, teacher_name="toy")
    student = Student(config).train()
    with torch.no_grad():
        for seed in range(40):  # running statistics of the world, as training leaves them
            student(torch.tensor(toy_frame(seed=seed).points))
        student.teacher_mean.normal_(0, 0.1)
    return student.eval()


@pytest.fixture
def student(settled_student):
    return copy.deepcopy(settled_student)
