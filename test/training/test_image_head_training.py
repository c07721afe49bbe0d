import pytest
import torch

from tttkd_ros.adaptation.targets import teacher_targets
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.paths import shipped_path
from tttkd_ros.simulation.drive import frames
from tttkd_ros.simulation.seeds import SEEDS
from tttkd_ros.teacher.foundation_model import load_teacher
from tttkd_ros.teacher.image_head import load_image_head
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.image_head_training import train_image_head

TINY = dict(teacher=shipped_path("models/teacher"), data=("sim:a2d2:1x4",), steps=60, batch=512)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    out = tmp_path_factory.mktemp("head") / "head.safetensors"
    train_image_head(out, **TINY)
    return out


def test_it_learns_its_training_domain(path):
    head = load_image_head(path, class_set=OUTDOOR, dim=192)
    teacher = load_teacher(TINY["teacher"], input_size=TrainingConfig.teacher_input, engine="eager")
    (frame,) = frames("a2d2", SEEDS["image head"].start, 1)
    targets = teacher_targets(frame, teacher, torch.Generator())
    correct = head(targets.features).argmax(1) == torch.from_numpy(frame.labels)[targets.index]
    assert correct.float().mean() > 0.6  # ten classes


def test_the_same_seed_gives_the_same_weights(path, tmp_path):
    train_image_head(tmp_path / "again.safetensors", **TINY)
    first, second = (load_image_head(each, class_set=OUTDOOR, dim=192).state_dict()
                     for each in (path, tmp_path / "again.safetensors"))
    assert all(torch.equal(first[name], second[name]) for name in first)
