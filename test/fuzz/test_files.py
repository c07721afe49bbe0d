"""Rigs, finished evaluations, and files with weights: one file of each folder is damaged."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from datetime import datetime

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tiny_teacher import save_tiny_teacher
from torch import nn

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.state_file import Origin, Provenance, load_state, save_state
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.evaluation.result import Result, Timing
from tttkd_ros.evaluation.store import Store, encode
from tttkd_ros.geometry.rig import RigCamera, load_rig, save_rig
from tttkd_ros.segmenter.checkpoint import describe, load_student, save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.teacher.foundation_model import load_teacher
from tttkd_ros.teacher.image_head import ImageHead, load_image_head, save_image_head
from tttkd_ros.training import loop


def rig(folder, drive):
    view = drive[0].views[0]
    save_rig(folder / "rig.yaml", {
        "both": RigCamera(view.camera_from_lidar, view.camera), "bare": RigCamera(view.camera_from_lidar),
    })  # fmt: skip
    quaternion = {"camera_from_lidar": {"translation": [0.0, 0.1, 0], "rotation": [0.0, 0, 0, 1]}}
    (folder / "quaternion.json").write_text(json.dumps({"cameras": {"one": quaternion}}))  # JSON is YAML

    def read():
        for name in ("rig.yaml", "quaternion.json"):
            for entry in load_rig(folder / name).values():
                assert np.isfinite(entry.camera_from_lidar).all()
                if entry.camera is not None:
                    entry.camera.project(torch.tensor([[0.0, 0, 1], [1, 2, 3]]))

    return read


def evaluation(folder, drive):
    inputs = {"code": "0ab1", "bags": ["bag"], "settings": {"limit": None, "seed": 0}}
    result = Result(
        "ttt-kd-o", ("car", "road"), np.arange(3), np.zeros((3, 2, 2, 3), np.int64), {"stride": 5}, 2, 1, {"norm": 1},
        ((1, 0.5),), np.zeros((3, 3), np.int64), np.zeros((3, 2), np.int64), samples={1: np.zeros(4, np.uint8)},
        timing=Timing(np.ones(3), np.ones(2)),
    )  # fmt: skip
    path = Store(folder, inputs).path("bag", result.title)
    path.parent.mkdir(parents=True, exist_ok=True)
    about, timing = encode(result, inputs["code"])
    path.write_bytes(about)
    path.with_suffix(".timing.npz").write_bytes(timing)

    def read():
        found = Store(folder, inputs).read("bag", result.title)
        assert found is None or found.name is not None

    return read


def student(folder, drive):
    model = small_student()
    save_student(model, folder / "student.safetensors", {"seed": "7"})

    def read():
        describe(folder / "student.safetensors")
        load_student(folder / "student.safetensors")

    return read


def small_student() -> Student:
    torch.manual_seed(0)
    options = dict(channels=2, levels=2)
    return Student(StudentConfig(options=options, head_width=2, teacher_dim=2, teacher_input=(28, 28)))


def adapted_weights(folder, drive):
    path, model = folder / "state.safetensors", small_student()
    provenance = Provenance("student.safetensors", "/segmenter", 3, datetime(2026, 1, 1).isoformat())
    save_state(path, Origin.of(model), Weights.copied(3, model.backbone), TTTConfig(), provenance)
    return lambda: load_state(path, Origin.of(model))


def image_head(folder, drive):
    path = folder / "head.safetensors"
    save_image_head(ImageHead(OUTDOOR, 2, "toy"), path, {"seed": "7"})

    def read():
        head = load_image_head(path, class_set=OUTDOOR, dim=2)
        assert head(torch.zeros(3, 2)).shape == (3, 10)

    return read


def teacher(folder, drive):
    save_tiny_teacher(folder, embed_dim=4, num_heads=1, mlp_ratio=1, mean=(0.5,) * 3, std=(0.2,) * 3)
    image = np.full((30, 40, 3), 128, np.uint8)

    def read():
        features = load_teacher(folder, input_size=(28, 28), engine="eager")([image])
        assert features.shape[:3] == (1, 2, 2)

    return read


def interrupted_training(folder, drive):
    class Model(nn.Linear):
        def forward(self, batch):
            return {"loss": super().forward(batch).sum()}

    fabric, model = Fabric(accelerator="cpu", devices=1), Model(2, 2)
    resume = loop.Resume(folder / "training.pt", every=1)

    def read():
        with (folder.parent / "progress").open("w") as progress, redirect_stdout(progress):
            loop.train(fabric, model, [torch.ones(1, 2)] * 2, loop.Optimisation(2, 0.1), title="", resume=resume)

    read()
    return read


@pytest.mark.parametrize(
    "make",
    [rig, evaluation, student, adapted_weights, image_head, teacher, interrupted_training],
    ids=lambda make: make.__name__,
)
def test_damaged_files(make, folder, fuzz_files, drive):
    """`make(folder, drive)` writes files and returns the function that reads them."""
    path = folder / "files"
    path.mkdir()
    read = make(path, drive)
    files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    fuzz_files(files, lambda _: read())
