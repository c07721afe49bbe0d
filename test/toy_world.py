"""Toy worlds, a toy teacher and small students for tests without a simulator or a vision transformer."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.projection import project
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.teacher.image_head import ImageHead

CAMERA = CameraModel(width=80, height=40, fx=40.0, fy=40.0, cx=40.0, cy=20.0)
# LiDAR: x forward, y left, z up. Camera: x right, y down, z forward.
CAMERA_FROM_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


class ToyTeacher:
    """Projects the mean colour of each patch to features with a fixed random matrix."""

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
    """A floor and a wall in front of a camera whose image is red above and blue below, and points behind the camera."""
    generator = np.random.default_rng(seed)
    floor = generator.uniform([2, -5, -1.5], [10, 5, -1.5], (300, 3))
    wall = generator.uniform([10, -5, -1.5], [10, 5, 4], (300, 3))
    behind = generator.uniform([-10, -5, -1.5], [-2, 5, 3], (100, 3))
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
def trained_student():
    torch.manual_seed(0)
    options = dict(channels=8, levels=3)
    config = StudentConfig(voxel_size=0.3, options=options, head_width=8, teacher_dim=6, teacher_name="toy")
    student = Student(config).train()
    with torch.no_grad():
        for seed in range(40):  # running statistics as training would leave them
            student(torch.tensor(toy_frame(seed=seed).points))
        student.teacher_mean.normal_(0, 0.1)
    return student.eval()


@pytest.fixture
def student(trained_student):
    return copy.deepcopy(trained_student)


class Town:
    """A street of three classes, with a student and an image head trained on it. The test sensor is noisier.

    Attributes:
        student: Trained on sweeps without noise.
        head: Classifies by colour.
        teacher: Has patches of one pixel.
    """

    ROAD, BUILDING, NATURE = 4, 7, 8
    NOISE = 0.1  # standard deviation of the test sensor, metres; the voxels measure 0.3
    _COLOURS = {ROAD: (0, 0, 255), BUILDING: (255, 0, 0), NATURE: (0, 255, 0)}

    def __init__(self):
        self.teacher = ToyTeacher()
        self.teacher.grid = (40, 80)
        torch.manual_seed(0)
        config = StudentConfig(voxel_size=0.3, options=dict(channels=8, levels=3), head_width=8, teacher_dim=6)
        self.student = Student(config).train()
        self.head = ImageHead(config.class_set, 6, "toy")
        optimiser = torch.optim.Adam([*self.student.parameters(), *self.head.parameters()], 1e-2)
        labels = torch.tensor(list(self._COLOURS)).repeat(20)
        features = (torch.tensor(list(self._COLOURS.values())) / 255 @ self.teacher._directions).repeat(20, 1)
        for seed in range(80):
            frame = self.frame(seed, noise=0.0)
            logits = self.student.logits(self.student(torch.tensor(frame.points)))
            loss = cross_entropy(logits, torch.tensor(frame.labels).long()) + cross_entropy(self.head(features), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        optimiser.zero_grad()
        self.student.eval()
        self.head.eval()

    def frame(self, seed, noise=NOISE):
        generator = np.random.default_rng(seed)
        parts = {
            self.ROAD: generator.uniform([2, -5, -1.5], [10, 5, -1.5], (400, 3)),
            self.BUILDING: generator.uniform([10, -5, -1.5], [10, 5, 4], (400, 3)),
            self.NATURE: generator.normal([6, 0, 1], [1, 1.5, 0.7], (300, 3)),
        }
        labels = np.repeat(list(parts), [len(part) for part in parts.values()]).astype(np.uint8)
        points = np.concatenate(list(parts.values()))
        points = (points + generator.normal(0, noise, points.shape)).astype(np.float32)
        view = View("front", seed, self._image(points, labels), CAMERA, CAMERA_FROM_LIDAR)
        return Frame(seed, points, (view,), labels=labels)

    def _image(self, points, labels):
        """Give every pixel the colour of the nearest point that projects to it."""
        image = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
        projection = project(torch.tensor(points), CAMERA, CAMERA_FROM_LIDAR, occlusion=False)
        for number in np.argsort(-points[:, 0]):
            if projection.visible[number]:
                column, row = projection.pixels[number].int().tolist()
                image[row, column] = self._COLOURS[labels[number]]
        return image

    def accuracy(self, student=None, weights=None):
        """Return the accuracy of a student on noisy sweeps; `self.student` and its own weights by default."""
        segmenter = Segmenter(student or self.student)
        if weights is not None:
            segmenter.load(weights)
        frames = [self.frame(1000 + seed) for seed in range(5)]
        return np.mean([(segmenter.segment(frame.points).labels == frame.labels).mean() for frame in frames])


@pytest.fixture(scope="session")
def town():
    return Town()
