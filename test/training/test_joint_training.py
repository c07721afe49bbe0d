"""Joint training learns, is repeatable, and stores the teacher's mean."""

import numpy as np
import pytest
import torch

from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.simulation.seeds import SEEDS
from tttkd_ros.training.source_training import augment, train_student
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


def test_augmentation_keeps_shapes():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 3))).float() * 10
    moved = augment(points, np.random.default_rng(1))
    ratio = torch.pdist(moved) / torch.pdist(points)
    assert ratio.min() > 0.5 and ratio.max() < 2
    assert not torch.allclose(moved, points)
