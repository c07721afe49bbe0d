"""Joint training learns, is repeatable, and stores the teacher's mean."""

import numpy as np
import pytest
import torch

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.features import estimate_normals
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.simulation.seeds import SEEDS
from tttkd_ros.training import source_training
from tttkd_ros.training.examples import augment, student_examples
from tttkd_ros.training.loop import train
from tttkd_ros.training.source_training import train_student
from tttkd_ros.training.teacher_training import train_teacher

TINY = dict(drives=2, sweeps_per_drive=4, epochs=6, batch=2, voxel_size=0.4)
TINIER = TINY | dict(drives=1, epochs=1)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    train_teacher(out, drives=1, images_per_drive=2, steps=20, batch=2, width=24, layers=1, heads=2)
    return out


@pytest.fixture(scope="module")
def checkpoint(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "student.safetensors"
    train_student(out, teacher=teacher, **TINY)
    return out


def test_it_learns_its_training_domain(checkpoint):
    segmenter = Segmenter(load_student(checkpoint))
    drive = frames("a2d2", SEEDS["student"].start, 4, DriveProfile(period=1.5))
    accuracy = [(segmenter.segment(frame.points).labels == frame.labels).mean() for frame in drive]
    assert np.mean(accuracy) > 0.4  # ten classes; the most frequent has a third of the points


def test_the_teachers_mean_is_stored(checkpoint):
    assert load_student(checkpoint).teacher_mean.abs().max() > 0


def test_the_same_seed_gives_the_same_weights(teacher, tmp_path):
    for name in ("first", "second"):
        train_student(tmp_path / name, teacher=teacher, **TINIER)
    first, second = (load_student(tmp_path / name).state_dict() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def distil_first(teacher, tmp_path, monkeypatch):
    """`distil_first(change)`: train in two stages. Return the weights after the first one and after both."""
    def run(change=lambda world, example: example):
        weights = []

        def spy(modules, *arguments, **settings):
            train(modules, *arguments, **settings)
            if "student" in modules:
                weights.append({name: tensor.clone() for name, tensor in modules["student"].state_dict().items()})

        def changed_examples(world, *arguments):
            return [change(world, example) for example in student_examples(world, *arguments)]

        monkeypatch.setattr(source_training, "train", spy)
        monkeypatch.setattr(source_training, "student_examples", changed_examples)
        out = tmp_path / "student.safetensors"
        source_training.train_student(out, teacher=teacher, distil_first=("a2d2", "kitti"), **TINIER | {"epochs": 2})
        return *weights, load_student(out).state_dict()

    return run


def changed(first, second):
    """Names of the tensors that differ, without the layers' numbers."""
    return {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}


def test_after_distillation_the_class_head_alone_is_trained(distil_first):
    assert changed(*distil_first()) == {"class_head"}


def test_distillation_uses_every_world_and_labels_of_the_source_alone(distil_first):
    def without_labels(world, example):
        return example if world == "a2d2" else example._replace(labels=torch.full_like(example.labels, UNLABELLED))

    def without_targets(world, example):
        return example if world == "a2d2" else example._replace(targets=torch.ones_like(example.targets))

    _, student = distil_first()
    assert not changed(student, distil_first(without_labels)[1])
    assert "backbone" in changed(student, distil_first(without_targets)[1])


def test_a_world_to_distil_on_is_given_once(tmp_path):
    with pytest.raises(ValueError, match="expected each world once"):
        train_student(tmp_path / "student", distil_first=("kitti", "kitti"))


def test_augmentation_keeps_shapes():
    points = Points(torch.from_numpy(np.random.default_rng(0).normal(size=(100, 3))).float() * 10)
    moved = augment(points, np.random.default_rng(1))
    ratio = torch.pdist(moved.xyz) / torch.pdist(points.xyz)
    assert ratio.min() > 0.5 and ratio.max() < 2
    assert not torch.allclose(moved.xyz, points.xyz)


def test_augmentation_turns_the_normals_with_the_cloud():
    generator = np.random.default_rng(0)
    plane = np.column_stack([generator.uniform(-5, 5, (200, 2)), np.full(200, -2.0)]).astype(np.float32)
    values = {"normal": torch.from_numpy(estimate_normals(plane)), "intensity": torch.rand(200, 1)}
    moved = augment(Points(torch.from_numpy(plane), values), generator)
    edges = moved.xyz[1:] - moved.xyz[:-1]
    assert (edges * moved.features["normal"][1:]).sum(1).abs().max() < 1e-3
    assert torch.allclose(moved.features["normal"].norm(dim=1), torch.ones(200), atol=1e-5)
    assert torch.equal(moved.features["intensity"], values["intensity"])


def test_a_student_is_trained_with_another_backbone_and_features(teacher, tmp_path):
    out = tmp_path / "student.safetensors"
    features = ("intensity", "normal", "position")
    train_student(out, teacher=teacher, backbone="pne", features=features,
                  options=("widths=[8,16]", "blocks=1", "decoder_blocks=0", "head=8"), **TINIER)
    student = load_student(out)
    assert student.config.backbone == "pne" and student.config.options["widths"] == (8, 16)
    assert student.config.inputs == dict.fromkeys(features, 1.0)
    assert student.backbone.outputs_per_neighbour.std() > 0  # it was calibrated
    (frame,) = frames("a2d2", 0, 1)
    assert (Segmenter(student).segment(frame.points, frame.features).confidence > 0).any()


@pytest.mark.parametrize(("arguments", "message"), [
    (dict(backbone="scm"), "'scm' is unknown, expected one of .*pne"), (dict(options=("depth=3",)), "no option depth"),
    (dict(options=("levels",)), "'levels': expected name=number"), (dict(options=("levels=2", "levels=3")), "twice"),
    (dict(features=("time",)), "time of every point"),
])
def test_a_network_that_cannot_be_made_is_refused(teacher, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train_student(tmp_path / "student", teacher=teacher, **TINIER | arguments)
