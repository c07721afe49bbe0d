"""A small student and teacher with random weights, and a rig, so that the node runs fast."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import Dinov2Config, Dinov2Model
from transformers.utils.logging import disable_progress_bar

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


def make_models(folder: Path) -> Models:
    disable_progress_bar()  # the soak shows its own
    torch.manual_seed(0)
    config = StudentConfig(
        options=dict(channels=4, levels=2), head_width=8, teacher_dim=24, teacher_input=(28, 56), voxel_size=0.5
    )
    models = Models(folder / "student.safetensors", folder / "teacher", folder / "rig.yaml")
    save_student(Student(config), models.student, {"made": "at random, for the soak"})
    shape = Dinov2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, patch_size=14, image_size=28)
    Dinov2Model(shape).save_pretrained(models.teacher)
    (models.teacher / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "BitImageProcessor", "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
    }))
    places = {camera: {"camera_from_lidar": {"matrix": place}}
              for camera, place in zip(CAMERAS, (FORWARD, LEFT), strict=True)}
    models.rig.write_text(json.dumps({"cameras": places}))  # JSON is YAML
    return models
