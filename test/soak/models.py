"""A small student and teacher with random weights, and a rig, so that the node runs fast."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tiny_teacher import save_tiny_teacher

from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig

from .common import CAMERAS

FORWARD = [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
LEFT = [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]


@dataclass(frozen=True)
class Models:
    student: Path
    teacher: Path
    rig: Path


def make_models(folder: Path, *, injection: bool = False) -> Models:
    """Write them to a folder. injection: the student takes image features."""
    torch.manual_seed(0)
    config = StudentConfig(
        options=dict(channels=4, levels=2), head_width=8, teacher_dim=24, teacher_input=(28, 56), voxel_size=0.5,
        injection="decoder" if injection else "", image_dim=24 if injection else 0,
    )
    models = Models(folder / "student.safetensors", folder / "teacher", folder / "rig.yaml")
    save_student(Student(config), models.student, {"made": "at random, for the soak"})
    save_tiny_teacher(models.teacher, embed_dim=24, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    places = {camera: {"camera_from_lidar": {"matrix": place}}
              for camera, place in zip(CAMERAS, (FORWARD, LEFT), strict=True)}
    models.rig.write_text(json.dumps({"cameras": places}))  # JSON is YAML
    return models
