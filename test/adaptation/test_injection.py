"""Adaptation of a student with injection: it learns without the images that its predictions take."""

import dataclasses

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.batch_norm import norms
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.adaptation.targets import image_features, teacher_targets, with_features
from tttkd_ros.baselines.batch_norm import train_affine_only, with_batch_statistics
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.student import Student

CONFIG = TTTConfig(stride=1, learning_rate=1.0, steps=2, rotations=1, seconds=0.0, bn_momentum=0.05, guard=False)


@pytest.fixture
def injecting(student):
    torch.manual_seed(0)
    dim = student.config.teacher_dim
    return Student(dataclasses.replace(student.config, injection="decoder", image_dim=dim)).eval()


def test_the_injection_stays_as_it_is(injecting, teacher, make_frame):
    adapter = OnlineTTTKD(injecting, teacher)
    before = {name: value.clone() for name, value in adapter._student.state_dict().items()}
    for seed in range(3):
        report = adapter.step(make_frame(seed=seed), CONFIG)
        assert report.accepted and report.bn_updated
    after = adapter._student.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and not any("injection" in name for name in changed)
    assert any(name.endswith("running_mean") for name in changed)


def test_the_gradient_does_not_depend_on_the_injected_features(injecting, teacher, make_frame, monkeypatch):
    adapter, given = OnlineTTTKD(injecting, teacher), []
    injection = adapter._student.backbone.injection
    project = injection.project

    def watched(place, images, indices=None):
        given.append(any(bool(level.table.any()) for level in images.values()))
        return project(place, images, indices)

    monkeypatch.setattr(injection, "project", watched)
    assert adapter.step(make_frame(), dataclasses.replace(CONFIG, bn_momentum=0.0)).accepted
    assert given and not any(given)


def test_the_statistics_are_those_of_the_cloud_with_its_images(injecting, teacher, make_frame):
    bright = make_frame()
    dark = dataclasses.replace(bright, views=tuple(
        dataclasses.replace(view, image=np.full_like(view.image, 250)) for view in bright.views))
    means = []
    for frame in (bright, dark):
        adapter = OnlineTTTKD(injecting, teacher)
        adapter.step(frame, dataclasses.replace(CONFIG, min_points=10**5))  # no gradient step
        means.append(torch.cat([value for name, value in adapter._student.state_dict().items()
                                if name.endswith("running_mean") and "injection" not in name]))
    assert not torch.equal(*means)


def test_the_teacher_runs_once_for_injection_and_adaptation(injecting, teacher, make_frame):
    adapter = OnlineTTTKD(injecting, teacher)
    frame = with_features(make_frame(), teacher)
    calls = teacher.calls
    images = image_features(frame, teacher)
    assert adapter.step(frame, CONFIG).accepted and teacher.calls == calls
    found = teacher_targets(make_frame(), teacher, torch.Generator())
    assert torch.equal(torch.nonzero(images.patch >= 0)[:, 0], found.index)
    torch.testing.assert_close(images.table[images.patch[found.index]], found.features)


def test_the_teacher_runs_once_for_the_statistics_and_the_steps(injecting, teacher, make_frame):
    assert OnlineTTTKD(injecting, teacher).step(make_frame(), CONFIG).accepted and teacher.calls == 1


def test_a_frame_without_views_has_no_image_features(injecting, teacher, make_frame):
    frame = with_features(make_frame(views=()), teacher)
    assert (image_features(frame, teacher).patch == -1).all() and frame.views == ()


def test_statistics_follow_the_cloud_without_images_that_the_guard_distrusts(injecting, teacher, make_frame):
    def after(frames, min_alignment):
        adapter = OnlineTTTKD(injecting, teacher)
        config = dataclasses.replace(CONFIG, guard=True, min_alignment=min_alignment, learning_rate=1e-5)
        for frame in frames:
            adapter.step(frame, config)
        return torch.cat([value for name, value in adapter._student.state_dict().items()
                          if name.endswith("running_mean")])

    first, second = make_frame(stamp=0), make_frame(stamp=1, seed=1)
    blind = dataclasses.replace(second, views=())
    torch.testing.assert_close(after([first, second], 2.0), after([first, blind], 2.0))
    assert not torch.allclose(after([first, second], -2.0), after([first, blind], -2.0))


def test_baselines_leave_the_injection_as_it_is(injecting, teacher, make_frame):
    """Its statistics would depend on patches that no point has."""
    frame = make_frame()
    images, student = image_features(frame, teacher), with_batch_statistics(injecting)
    more = ImageFeatures(images.patch, torch.cat([images.table, 9 + torch.zeros(20, teacher.dim)]))
    with torch.no_grad():
        plain, padded = (student(student.points(frame.points, {}, each)) for each in (images, more))
    assert torch.equal(plain, padded)
    trained = {id(parameter) for parameter in train_affine_only(injecting.backbone)}
    assert trained == {id(parameter) for norm in norms(injecting.backbone) for parameter in (norm.weight, norm.bias)}
