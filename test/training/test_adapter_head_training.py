"""A head for an existing segmenter: nothing else changes, it learns, and the segmenter then adapts."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from tiny_teacher import save_tiny_teacher

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.loading import load_ttt_kd
from tttkd_ros.classes import load_class_set
from tttkd_ros.cli import main
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.segmenter.checkpoint import describe, load_student, save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.teacher.foundation_model import check_teacher
from tttkd_ros.training.adapter_head_config import AdapterHeadConfig
from tttkd_ros.training.adapter_head_training import train_adapter_head
from tttkd_ros.training.curves import Curves
from tttkd_ros.training.student_training import train_student

SCN = dict(voxel_size=0.4, options=dict(levels=2), inputs={"position": 1.0})
SPUNET = dict(voxel_size=0.4, backbone="spunet34c", inputs={"position": 1.0}, head_width=0,
              options=dict(base_channels=4, channels=(4, 6, 8, 5), layers=(1, 2, 2, 1)))
PTV3 = dict(voxel_size=0.4, backbone="ptv3", inputs={"position": 0.1}, head_width=0,
            options=dict(channels=(8, 16), depths=(1, 1), heads=(1, 2), decoder_channels=(8,), decoder_depths=(1,),
                         decoder_heads=(1,), strides=(2,), patch_size=16))


@pytest.fixture
def segmenter(tiny, tmp_path):
    """`segmenter(**settings)`: a checkpoint with random weights, BatchNorm statistics of some sweeps, and no head."""

    def make(provenance=None, **settings):
        torch.manual_seed(0)
        student = Student(StudentConfig(**{**SCN, "teacher_dim": 0} | settings)).train()
        with torch.no_grad():
            for frame in tiny.frames(4) * 5:
                student(student.points(frame.points, {"time": np.zeros(len(frame.points))}))
        path = tmp_path / f"segmenter_{len(list(tmp_path.iterdir()))}.safetensors"
        save_student(student.eval(), path, {"made": "for a test"} if provenance is None else provenance)
        return path

    return make


@pytest.fixture
def config(tiny, bag, segmenter, tmp_path):
    """`config(**changes)`: the settings of a training of four steps."""

    given = dict(segmenter=segmenter(), data=(str(bag),), out=tmp_path / "adopted.safetensors", teacher=tiny.teacher,
                 teacher_input=(28, 56), steps=4, batch=2, workers=0, save_every=2, accelerator="cpu")
    return lambda **changes: AdapterHeadConfig(**given | changes)


def weights(path):
    return load_student(path).state_dict()


def changed(before, after):
    return {name for name in before.keys() | after.keys()
            if name not in before or name not in after or not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("settings", [SCN, SPUNET, PTV3], ids=["scn", "spunet34c", "ptv3"])
def test_only_head_and_mean_change_and_the_student_adapts(config, segmenter, tiny, settings):
    adopting = config(segmenter=segmenter(**settings))
    train_adapter_head(adopting)
    difference = changed(weights(adopting.segmenter), weights(adopting.out))
    assert difference and all(name.startswith(("teacher_head.", "teacher_mean")) for name in difference)
    student = load_student(adopting.out)
    assert student.teacher_mean.abs().max() > 0
    check_teacher(tiny.teacher, dim=student.config.teacher_dim, input_size=student.config.teacher_input)

    reports = []
    build = partial(load_ttt_kd, student, tiny.teacher, engine="eager", device="cpu", threads=1, seed=0)
    pipeline = Pipeline(student, build, TTTConfig(stride=1, guard=False), background=False, on_report=reports.append)
    try:
        for frame in tiny.frames(2, 3):
            pipeline.segment(frame.points)
            pipeline.adapt(frame.stamp, lambda frame=frame: frame)
    finally:
        pipeline.close()
    assert [report.accepted for report in reports] == [True] * 3


def test_the_cosine_of_a_source_only_student_rises(config, tiny, tiny_config, tmp_path, monkeypatch):
    frames = tiny.frames(1)
    for frame in frames:  # label and image say the same
        frame.labels[:] = frame.points[:, 2] > 0
        frame.views[0].image[:8], frame.views[0].image[8:] = 0, 255
    data, segmenter = (str(tiny.bag(tmp_path / "drive", frames)),), tmp_path / "source_only.safetensors"
    train_student(tiny_config(segmenter, data=data, features=("position",), epochs=20, distillation=0.0))
    found = []
    monkeypatch.setattr(Curves, "add_losses", lambda curves, step, losses: found.append(-losses["distillation"]))
    train_adapter_head(config(segmenter=segmenter, data=data, steps=40))
    assert abs(np.mean(found[:3])) < 0.4 and np.mean(found[-10:]) > 0.7


def test_a_resumed_training_equals_an_uninterrupted_one(config, interrupt, tmp_path, curve_suffixes):
    train_adapter_head(whole := config(out=tmp_path / "whole.safetensors"))
    undo = interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        train_adapter_head(config())
    undo()
    with pytest.raises(ValueError, match="holds another training .*kd_points 2048 there, 100 here"):
        train_adapter_head(config(kd_points=100))
    train_adapter_head(again := config())
    assert not changed(weights(whole.out), weights(again.out))
    names = {path.name for path in tmp_path.iterdir() if path.name.startswith("adopted")}
    assert names == {f"adopted{suffix}" for suffix in {".safetensors"} | curve_suffixes}


def test_another_segmenter_of_the_same_name_does_not_continue(config, segmenter, interrupt):
    undo = interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        train_adapter_head(config())
    undo()
    segmenter(options=dict(levels=3)).rename(config().segmenter)
    with pytest.raises(ValueError, match="holds another training .checkpoint"):
        train_adapter_head(config())


@pytest.mark.parametrize(("made", "data", "expected"), [
    ("simulation", "sim:a2d2:1x2", "simulation"), ("simulation", None, "recordings"),
    ("Pointcept", "sim:a2d2:1x2", "recordings"),
])
def test_the_provenance_tells_of_both_trainings(config, segmenter, made, data, expected):
    changes = {} if data is None else {"data": (data,)}
    adopting = config(segmenter=segmenter({"command": "earlier", "data": made}), **changes)
    train_adapter_head(adopting)
    _, provenance = describe(adopting.out)
    assert provenance["command"] == "tttkd train adapter-head" and provenance["data"] == expected
    assert provenance["segmenter.command"] == "earlier" and provenance["segmenter.data"] == made
    assert provenance["segmenter"] == str(adopting.segmenter) and provenance["steps"] == "4"
    assert load_student(adopting.out).simulated == (expected == "simulation")


def test_a_head_that_is_there_is_replaced_by_one_of_another_width(config, tiny, tmp_path, capsys):
    teacher = save_tiny_teacher(tmp_path / "wide", embed_dim=32)
    adopting = config(segmenter=tiny.model, teacher=teacher)
    train_adapter_head(adopting)
    assert f"{tiny.model} has a head for the teacher (unnamed): it is replaced" in capsys.readouterr().out
    student = load_student(adopting.out)
    assert (student.config.teacher_dim, student.config.teacher_name) == (32, "wide")
    difference = changed(weights(tiny.model), student.state_dict())
    assert all(name.startswith("teacher_") for name in difference)


def test_recordings_with_labels_of_other_classes_serve(config, segmenter):
    adopting = config(segmenter=segmenter(class_set=load_class_set("waymo22")), data=("sim:a2d2:1x2",))
    train_adapter_head(adopting)
    assert load_student(adopting.out).config.class_set.name == "waymo22"


def test_features_can_be_computed_anew(config):
    train_adapter_head(adopting := config(teacher_features="computed"))
    assert changed(weights(adopting.segmenter), weights(adopting.out))


@pytest.mark.parametrize("cameras", [0, 1])
def test_recordings_that_no_camera_sees_are_refused(config, tiny, bag, tmp_path, cameras):
    backwards = np.diag([-1.0, 1, -1, 1])
    frames = [replace(frame, points=np.abs(frame.points), views=tuple(
        replace(view, camera_from_lidar=backwards @ view.camera_from_lidar) for view in frame.views[:cameras]
    )) for frame in tiny.frames(3)]
    blind = tiny.bag(tmp_path / "blind", frames)
    with pytest.raises(ValueError, match="no camera sees a point of blind: check its cameras and their calibration"):
        train_adapter_head(config(data=(str(bag), str(blind))))


@pytest.mark.parametrize(("changes", "message"), [
    (dict(data=()), "name sources with --data"), (dict(data=("nothing",)), "no bag at nothing"),
    (dict(teacher="nothing"), "no teacher at 'nothing'"), (dict(batch=7), "there are 6 frames, but a step takes 7"),
    (dict(steps=0), "steps is 0, expected at least 1"), (dict(learning_rate=0.0), "learning_rate is 0.0"),
    (dict(data=("a", "a")), "data is a a: expected each source once"),
])
def test_a_training_that_cannot_be_is_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        train_adapter_head(config(**changes))


def test_features_that_the_recordings_lack_are_named(config, segmenter):
    with pytest.raises(ValueError, match="drive, sweep 0: the student takes time of every point"):
        train_adapter_head(config(segmenter=segmenter(inputs={"time": 1.0})))


def test_a_segmenter_that_is_none_is_refused(config, tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at .*none"):
        train_adapter_head(config(segmenter=tmp_path / "none"))
    with pytest.raises(ValueError, match="model.safetensors: format .*name another file"):
        train_adapter_head(config(segmenter=tiny.teacher / "model.safetensors"))
    torch.save({"state_dict": {}}, tmp_path / "model_best.pth")
    with pytest.raises(ValueError, match="not a safetensors file.*`tttkd import pointcept`"):
        train_adapter_head(config(segmenter=tmp_path / "model_best.pth"))
    with pytest.raises(ValueError, match="the segmenter itself: name another file"):
        config(segmenter=tmp_path / "adopted.safetensors")


def test_the_command_takes_the_options(config, tiny, bag, segmenter, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["tttkd", "train", "adapter-head", "--segmenter", str(segmenter()), "--data",
                                     str(bag), "--teacher", str(tiny.teacher), "--teacher-input", "28", "56",
                                     "--out", str(tmp_path / "adopted.safetensors"), "--steps", "2", "--batch", "2",
                                     "--workers", "0", "--accelerator", "cpu"])
    main()
    assert "adopted.safetensors sha256" in capsys.readouterr().out
    assert load_student(tmp_path / "adopted.safetensors").config.teacher_dim == 16
