"""A tiny student, a tiny teacher and a rig, as the files that the node and its tools load."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Models:
    student: Path
    teacher: Path
    rig: Path


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Models:
    """Random weights of the right shapes: they label nonsense, but in the way that real ones do."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    from tttkd_ros.segmenter.checkpoint import save_student
    from tttkd_ros.segmenter.student import Student, StudentConfig

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = StudentConfig(
        base_channels=4, levels=2, head_width=8, teacher_dim=24, teacher_input=(28, 56), voxel_size=0.5
    )
    save_student(Student(config), folder / "student.safetensors", {"made": "at random, for tests"})
    shape = Dinov2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, patch_size=14, image_size=28)
    Dinov2Model(shape).save_pretrained(folder / "teacher")
    (folder / "teacher/preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "BitImageProcessor", "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
    }))
    (folder / "rig.yaml").write_text(  # LiDAR x forward, y left, z up; camera x right, y down, z forward
        "cameras: {camera_front: {camera_from_lidar: {matrix: "
        "[[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]}}}\n"
    )
    return Models(folder / "student.safetensors", folder / "teacher", folder / "rig.yaml")
