"""Files with weights: students, adapted weights, image heads, teachers and interrupted trainings."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from datetime import datetime

import numpy as np
import pytest
import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.state_file import Origin, Provenance, load_state, save_state
from tttkd_ros.segmenter.checkpoint import describe, load_student, save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.teacher import load_teacher
from tttkd_ros.teacher.image_head import ImageHead, load_image_head, save_image_head
from tttkd_ros.teacher.preprocessing import Preprocessing
from tttkd_ros.training import loop

from . import inputs

PREPROCESSING = {
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2], "rescale_factor": 0.004, "do_rescale": True,
    "do_normalize": True,
}  # fmt: skip
SMALL = StudentConfig(base_channels=2, levels=2, head_width=2, teacher_dim=2, teacher_input=(28, 28))


def opened(content: bytes) -> tuple[dict, bytes]:
    """Header and data of a safetensors file; metadata that are JSON become part of the tree."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for name, text in header.get("__metadata__", {}).items():
        if text[:1] in '{["0123456789':
            header["__metadata__"][name] = {"json": json.loads(text)}
    return header, content[8 + size :]


def closed(header, data: bytes) -> bytes:
    """The file again."""
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict):
        header = header | {"__metadata__": {
            name: json.dumps(value["json"]) if isinstance(value, dict) and "json" in value else value
            for name, value in metadata.items()
        }}  # fmt: skip
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.fixture
def headers():
    """`headers(content)`: makes safetensors files with a changed header."""

    def changed(content: bytes):
        header, data = opened(content)
        change = inputs.changed(header)
        return lambda tape: closed(change(tape), data)

    return changed


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Student(SMALL)


@pytest.fixture
def student_file(folder, student):
    path = folder / "student.safetensors"
    save_student(student, path, {"seed": "7"})
    return path


@pytest.fixture
def take_student(student_file):
    def take(content: bytes) -> None:
        student_file.write_bytes(content)
        describe(student_file)
        load_student(student_file)

    return take


def test_students(fuzz, student_file, take_student):
    fuzz(inputs.damaged(student_file.read_bytes()), take_student)


def test_headers_of_students(fuzz, headers, student_file, take_student):
    fuzz(headers(student_file.read_bytes()), take_student)


@pytest.fixture
def state_file(folder, student):
    path = folder / "state.safetensors"
    provenance = Provenance("student.safetensors", "/segmenter", 3, datetime(2026, 1, 1).isoformat())
    save_state(path, Origin.of(student), Weights.copied(3, student.backbone), TTTConfig(), provenance)
    return path


@pytest.fixture
def take_state(state_file, student):
    origin = Origin.of(student)

    def take(content: bytes) -> None:
        state_file.write_bytes(content)
        load_state(state_file, origin)

    return take


def test_adapted_weights(fuzz, state_file, take_state):
    fuzz(inputs.damaged(state_file.read_bytes()), take_state)


def test_headers_of_adapted_weights(fuzz, headers, state_file, take_state):
    fuzz(headers(state_file.read_bytes()), take_state)


@pytest.fixture
def head_file(folder):
    path = folder / "head.safetensors"
    save_image_head(ImageHead("outdoor10", 2, "toy"), path, {"seed": "7"})
    return path


@pytest.fixture
def take_head(head_file):
    def take(content: bytes) -> None:
        head_file.write_bytes(content)
        head = load_image_head(head_file, class_set="outdoor10", dim=2)
        assert head(torch.zeros(3, 2)).shape == (3, 10)

    return take


def test_image_heads(fuzz, head_file, take_head):
    fuzz(inputs.damaged(head_file.read_bytes()), take_head)


def test_headers_of_image_heads(fuzz, headers, head_file, take_head):
    fuzz(headers(head_file.read_bytes()), take_head)


@pytest.fixture
def teacher(folder):
    config = Dinov2Config(hidden_size=4, num_hidden_layers=1, num_attention_heads=1, image_size=28, patch_size=14,
                          mlp_ratio=1)
    path = folder / "teacher"
    Dinov2Model(config).save_pretrained(path)
    return path


@pytest.fixture
def take_teacher(teacher):
    """`take_teacher(name)`: the target that puts its input in place of that file of the teacher's."""

    def of(name: str):
        def take(content: bytes) -> None:
            (teacher / name).write_bytes(content)
            load_teacher(teacher, input_size=(28, 28), engine="eager")

        return take

    return of


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files_of_teachers(fuzz, teacher, take_teacher, name):
    fuzz(inputs.damaged((teacher / name).read_bytes()), take_teacher(name))


def test_configurations_of_teachers(fuzz, teacher, take_teacher):
    change = inputs.changed(json.loads((teacher / "config.json").read_text()))
    fuzz(lambda tape: json.dumps(change(tape)).encode(), take_teacher("config.json"))


@pytest.mark.parametrize("by", ["text", "document"])
def test_preprocessing_of_teachers(fuzz, folder, by):
    path = folder / "preprocessor_config.json"
    image = np.full((30, 40, 3), 128, np.uint8)
    change = inputs.changed(PREPROCESSING)
    damage = inputs.damaged(json.dumps(PREPROCESSING).encode())

    def take(content: bytes) -> None:
        path.write_bytes(content)
        assert Preprocessing.from_file(path)([image], (28, 28), "cpu").isfinite().all()

    fuzz(damage if by == "text" else lambda tape: json.dumps(change(tape)).encode(), take)


def test_headers_of_teachers(fuzz, headers, teacher, take_teacher):
    fuzz(headers((teacher / "model.safetensors").read_bytes()), take_teacher("model.safetensors"))


def test_interrupted_trainings(fuzz, folder):
    path = folder / "training.pt"
    with (folder / "progress").open("w") as progress, redirect_stderr(progress):
        model = nn.Linear(2, 2)
        state = {"model": model, "optimiser": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)}
        loop.run(2, lambda _: 1.0, state, title="", resume=path, every=1)

        def take(content: bytes) -> None:
            path.write_bytes(content)
            loop.run(2, lambda _: 1.0, state, title="", resume=path, every=1)

        fuzz(inputs.damaged(path.read_bytes()), take)
