"""A bag of a few small sweeps, and small random models to evaluate on it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from tiny_teacher import save_tiny_teacher

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig

SWEEPS = 6
CAMERA = CameraModel(width=32, height=16, fx=16.0, fy=16.0, cx=16.0, cy=8.0)
FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


class Tiny(NamedTuple):
    folder: Path
    model: Path
    teacher: Path

    def student(self, seed: int) -> Path:
        """Another checkpoint of the same kind."""
        torch.manual_seed(seed)
        options = dict(levels=2)
        student = Student(StudentConfig(options=options, voxel_size=0.4, teacher_dim=16, teacher_input=(28, 56))).eval()
        with torch.no_grad():  # so that no class wins everywhere
            student.class_head[-1].bias -= student.logits(student(torch.tensor(self.frames()[0].points))).mean(0)
        path = self.folder / f"student_{seed}.safetensors"
        save_student(student, path, {"made": "for a test"})
        return path

    def frames(self, seed: int = 0, sweeps: int = SWEEPS) -> list[Frame]:
        """600 points each, half of them behind the camera."""
        generator = np.random.default_rng(seed)
        frames = []
        for index in range(sweeps):
            stamp = 1_700_000_000 * 10**9 + index * 10**8
            points = generator.uniform((-9, -4, -2), (9, 4, 2), (600, 3)).astype(np.float32)
            image = generator.integers(0, 255, (16, 32, 3)).astype(np.uint8)
            view = View("camera", stamp, image, CAMERA, FORWARD)
            frames.append(Frame(stamp, points, (view,), labels=(points[:, 1] > 0).astype(np.uint8)))
        return frames

    def bag(self, path: Path, frames: list[Frame] | None = None) -> Path:
        with BagWriter(path) as bag:
            for frame in self.frames() if frames is None else frames:
                bag.write_frame(frame)
        return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    save_tiny_teacher(folder / "teacher")
    tiny = Tiny(folder, folder / "student_0.safetensors", folder / "teacher")
    tiny.student(0)
    return tiny
