"""A student with injection learns what only the images show, and does without those that are dropped."""

import re
import shutil
from dataclasses import replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.targets import image_features
from tttkd_ros.segmenter.checkpoint import describe, load_student
from tttkd_ros.segmenter.injection import INJECTIONS
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.teacher.foundation_model import load_teacher
from tttkd_ros.training.adapter_head_config import AdapterHeadConfig
from tttkd_ros.training.adapter_head_training import train_adapter_head
from tttkd_ros.training.augmentation import Augmentation
from tttkd_ros.training.batches import Batches, BatchSettings
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.preparation import FrameTeacher, prepare
from tttkd_ros.training.prepared import FrameSettings, read_frame
from tttkd_ros.training.student_training import train_student

SETTINGS = BatchSettings(size=2, seed=0, offset=1.0, voxel_size=0.3, kd_points=100, patches=8,
                         augmentation=Augmentation(0, 0, 0, 0, drop=0.2, mix3d=0.5))


@pytest.fixture(params=["cached", "computed"])
def paths(request, tiny, toy_part, tmp_path):
    teacher = FrameTeacher(str(tiny.teacher), "", "cpu") if request.param == "cached" else None
    return prepare([toy_part(6)], tmp_path, FrameSettings(3, (), (2, 4), (28, 56)), teacher, quiet=True)[0].paths()


def lit_frames(tiny, count=8):
    """Labels that no cloud shows: 1 where the image is bright, 0 where it is dark. All points are in view."""
    frames = tiny.frames(2, count)
    for number, frame in enumerate(frames):
        frame.points[:, 0] = np.abs(frame.points[:, 0]) + 4
        frame.labels[:] = number % 2
        frame.views[0].image[:] = 255 * (number % 2)
    return frames


@pytest.mark.parametrize("features", ["cached", "computed"])
def test_it_learns_what_only_the_images_show(tiny, tiny_config, tmp_path, features):
    frames = lit_frames(tiny)
    data = (str(tiny.bag(tmp_path / "drive", frames)),)
    out = tmp_path / "student.safetensors"
    train_student(tiny_config(out, data=data, validation=data, injection="decoder", view_dropout=0.2, epochs=15,
                              validate_every=15, teacher_features=features))
    student = load_student(out)
    assert (student.config.injection, student.config.image_dim, student.config.teacher_dim) == ("decoder", 16, 16)
    teacher = load_teacher(tiny.teacher, input_size=(28, 56), engine="eager")
    segmenter = Segmenter(student)
    right = {True: [], False: []}
    for frame in frames:
        images = image_features(frame, teacher)
        seen = images.patch.numpy() >= 0
        for given in (True, False):
            labels = segmenter.segment(frame.points, images=images if given else None).labels
            right[given].append((labels == frame.labels)[seen].mean())
    assert np.mean(right[True]) > 0.95 and 0.3 < np.mean(right[False]) < 0.7
    assert describe(out)[1]["view_dropout"] == "0.2"


def test_without_distillation_it_has_no_head(tiny_config, tmp_path):
    out = tmp_path / "student.safetensors"
    train_student(tiny_config(out, injection="last", view_dropout=0.0, distillation=0.0))
    assert load_student(out).config.teacher_dim == 0 and not hasattr(load_student(out), "teacher_head")


def test_an_adapter_head_is_learned_without_the_images(tiny_config, tiny, bag, tmp_path):
    """Given the features, the head would have nothing to predict."""
    segmenter, out = tmp_path / "student.safetensors", tmp_path / "adopted.safetensors"
    train_student(tiny_config(segmenter, injection="last", view_dropout=0.0, distillation=0.0))
    train_adapter_head(AdapterHeadConfig(segmenter=segmenter, out=out, data=(str(bag),), teacher=tiny.teacher, steps=3,
                                         teacher_input=(28, 56), batch=2, workers=0, accelerator="cpu"))
    adopted, before = load_student(out), load_student(segmenter).state_dict()
    assert adopted.config.teacher_dim == adopted.config.image_dim == 16
    assert all(torch.equal(tensor, adopted.state_dict()[name]) for name, tensor in before.items()
               if name != "teacher_mean")


@pytest.mark.parametrize(("changes", "found"), [
    ({"teacher_input": (56, 56)}, "not those of teacher at (56, 56)"), ({"teacher": "other"}, "not those of other at"),
])
def test_a_head_for_another_teacher_than_the_injections_is_refused(tiny_config, tiny, bag, tmp_path, changes, found):
    segmenter = tmp_path / "student.safetensors"
    train_student(tiny_config(segmenter, injection="last", view_dropout=0.0, distillation=0.0))
    if "teacher" in changes:
        changes = {"teacher": shutil.copytree(tiny.teacher, tmp_path / "other")}
    given = dict(teacher=tiny.teacher, teacher_input=(28, 56)) | changes
    with pytest.raises(ValueError, match=re.escape(found)):
        train_adapter_head(AdapterHeadConfig(segmenter=segmenter, out=tmp_path / "adopted.safetensors",
                                             data=(str(bag),), accelerator="cpu", **given))


@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_points_get_image_features_or_a_target(paths, dropout):
    batches = Batches(paths, replace(SETTINGS, view_dropout=dropout))
    expected = {}
    for number, frame in enumerate(map(read_frame, paths)):
        for row, point in enumerate(frame.points.xyz.tolist()):
            expected[tuple(point)] = number, frame, row
    states = []
    for batch in map(batches.__getitem__, range(6)):
        for place, row in enumerate(batch.visible.tolist()):
            number, frame, point = expected[tuple(batch.xyz[row].tolist())]
            assert batch.injected[row] < 0
            check_row(batch, batch.patch[place], frame, point)
        for row in torch.nonzero(batch.injected >= 0)[:, 0].tolist():
            number, frame, point = expected[tuple(batch.xyz[row].tolist())]
            check_row(batch, batch.injected[row], frame, point)
        for number in {expected[tuple(point.tolist())][0] for point in batch.xyz}:
            rows = [row for row, point in enumerate(batch.xyz.tolist()) if expected[tuple(point)][0] == number]
            states.append(bool((batch.injected[rows] >= 0).any()))
    assert {0.0: {True}, 0.5: {True, False}, 1.0: {False}}[dropout] == set(states)


def check_row(batch, table_row, frame, point):
    patch = frame.patches[0, point]
    assert patch >= 0
    if frame.maps is not None:
        assert torch.equal(batch.table[table_row], frame.maps[0, patch])
    else:
        image, within = divmod(int(table_row), 8)
        assert torch.equal(batch.images[image], frame.images[0]) and within == patch


def test_each_view_is_dropped_by_itself(toy_part, tmp_path):
    part = toy_part(2)
    part.frames = [replace(frame, views=frame.views * 2) for frame in part.frames]
    (prepared,) = prepare([part], tmp_path, FrameSettings(3, (), (2, 4), (28, 56)), quiet=True)
    batches = Batches(prepared.paths(), replace(SETTINGS, size=1, view_dropout=0.5, augmentation=Augmentation()))
    views = {tuple((batch.injected[batch.injected >= 0] // 8).unique().tolist())
             for batch in map(batches.__getitem__, range(30))}
    assert views == {(), (0,), (1,), (0, 1)}


@pytest.mark.parametrize(("settings", "message"), [
    (dict(injection="decoder", view_dropout=0.0), "view_dropout is 0, so every view is injected"),
    (dict(injection="decoder", view_dropout=1.0), "view_dropout is 1, so no view is injected"),
    (dict(view_dropout=1.5), "view_dropout is 1.5"),
])
def test_bad_settings_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**settings)


def test_the_options_are_those_of_the_student():
    assert get_args(get_type_hints(TrainingConfig)["injection"]) == ("none", *INJECTIONS)
