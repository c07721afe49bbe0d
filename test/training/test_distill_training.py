"""Pretraining of a backbone: it learns without labels, resumes, and its file starts a student and is none."""

from functools import partial

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.cli import main
from tttkd_ros.segmenter.checkpoint import describe, load_student, save_student
from tttkd_ros.segmenter.pretrained import backbone_provenance, load_backbone
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.training.curves import Curves
from tttkd_ros.training.distill_config import DistillConfig, distill_defaults
from tttkd_ros.training.distill_training import DistillTraining, train_backbone
from tttkd_ros.training.recipes import load_recipe
from tttkd_ros.training.student_training import train_student

SPUNET = ("base_channels=4", "channels=[4,6,8,5]", "layers=[1,2,2,1]")
PNE = ("widths=[8,16]", "blocks=1", "decoder_blocks=0", "head=8")


@pytest.fixture
def config(tiny, bag, tmp_path):
    """`config(**changes)`: the settings of a pretraining of six steps."""
    given = dict(data=(str(bag),), out=tmp_path / "backbone.safetensors", teacher=tiny.teacher, teacher_input=(28, 56),
                 options=("levels=2",), voxel_size=0.4, epochs=2, batch=2, workers=0, save_every=2, accelerator="cpu")
    return lambda **changes: DistillConfig(**given | changes)


@pytest.fixture
def other(tiny, tmp_path):
    return str(tiny.bag(tmp_path / "other", tiny.frames(2, 4)))


def tensors(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_cosine_rises(config, tiny, tmp_path, monkeypatch, curve_suffixes):
    frames = tiny.frames(1)
    for frame in frames:
        frame.labels[:] = UNLABELLED
        frame.views[0].image[:8], frame.views[0].image[8:] = 0, 255
    found = []
    monkeypatch.setattr(Curves, "add_losses", lambda curves, step, losses: found.append(-losses["distillation"]))
    train_backbone(config(data=(str(tiny.bag(tmp_path / "drive", frames)),), features=("position",), epochs=15))
    assert abs(np.mean(found[:3])) < 0.5 and np.mean(found[-6:]) > 0.7


def test_the_file_has_the_backbone_alone(config, tmp_path, curve_suffixes):
    train_backbone(settings := config(data=("sim:a2d2:1x4",), features=("position=0.5",)))
    student = Student(DistillTraining(settings).student_config)
    assert tensors(settings.out).keys() == student.backbone.state_dict().keys()
    made = backbone_provenance(settings.out)
    assert (made["command"], made["sources"], made["data"]) == ("tttkd train distill", "sim:a2d2:1x4", "simulation")
    assert made["learning_rate"] == "0.005" and made["features"] == "position=0.5"
    assert {path.suffix for path in tmp_path.glob("backbone*")} <= {".safetensors", *curve_suffixes}


@pytest.mark.parametrize("changes", [
    dict(backbone="spunet34c", options=SPUNET, features=("position",)), dict(backbone="pne", options=PNE),
    dict(teacher_features="computed"), dict(schedule="steps", steps=3), dict(precision="bf16-mixed"),
])
def test_any_backbone_is_pretrained(config, other, changes):
    train_backbone(settings := config(data=(config().data[0], other), **changes))
    found = load_backbone(settings.out, DistillTraining(settings).student_config)
    assert all(tensor.isfinite().all() for tensor in found.values())


@pytest.mark.parametrize("several", [False, True])
def test_a_resumed_pretraining_equals_an_uninterrupted_one(config, other, tmp_path, interrupt, several):
    config = partial(config, data=(config().data[0], other)) if several else config
    train_backbone(whole := config(out=tmp_path / "whole.safetensors"))
    undo = interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        train_backbone(config())
    undo()
    with pytest.raises(ValueError, match="holds another training .*kd_points 2048 there, 100 here"):
        train_backbone(config(kd_points=100))
    train_backbone(config(workers=2))
    assert equal(tensors(whole.out), tensors(config().out))


def test_the_seed_decides_the_weights(config, tmp_path):
    train_backbone(config())
    train_backbone(again := config(out=tmp_path / "again.safetensors"))
    train_backbone(other := config(out=tmp_path / "other.safetensors", seed=1))
    assert equal(tensors(config().out), tensors(again.out)) and not equal(tensors(again.out), tensors(other.out))


def test_two_processes_train_on_two_sources(config, other):
    train_backbone(settings := config(data=(config().data[0], other), batch=1, devices=2, steps=5))
    assert all(tensor.isfinite().all() for tensor in tensors(settings.out).values())


def test_the_file_is_no_student(config, capsys, monkeypatch):
    train_backbone(settings := config(steps=1))
    for load in (load_student, describe):
        with pytest.raises(ValueError, match="a pretrained backbone, which has no classes: make a student of it with "
                                             "`tttkd train student --init .*backbone.safetensors`"):
            load(settings.out)
    monkeypatch.setattr("sys.argv", ["tttkd", "evaluate", settings.data[0], "--model", str(settings.out)])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err.strip()
    assert "a pretrained backbone" in error and "\n" not in error


@pytest.mark.parametrize(("changes", "message"), [
    (dict(data=()), "name sources with --data"), (dict(data=("nothing",)), "no bag at nothing"),
    (dict(teacher="nothing"), "no teacher at 'nothing'"), (dict(batch=7), "there are 6 frames, but a step takes 7"),
    (dict(steps=-1), "steps is -1, expected at least 0"), (dict(warm_up=1.0), "warm_up is 1.0"),
    (dict(options=("depth=3",)), "no option depth"), (dict(data=("a", "a")), "expected each source once"),
])
def test_a_pretraining_that_cannot_be_is_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        train_backbone(config(**changes))


def test_recordings_that_no_camera_sees_are_refused(config, tiny, tmp_path):
    frames = tiny.frames(3)
    for frame in frames:
        frame.points[:, 0] = -np.abs(frame.points[:, 0])
    with pytest.raises(ValueError, match="no camera sees a point of blind"):
        train_backbone(config(data=(config().data[0], str(tiny.bag(tmp_path / "blind", frames)))))


def test_a_recipe_gives_the_options_that_both_trainings_have():
    recipe = load_recipe("semantickitti")
    settings = distill_defaults(recipe)
    for name in ("data", "teacher_input", "backbone", "features", "voxel_size", "epochs", "augmentation"):
        assert getattr(settings, name) == getattr(recipe, name)
    assert settings.out != recipe.out


def test_the_command_takes_the_options(config, tiny, bag, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["tttkd", "train", "distill", "--recipe", "rehearsal", "--data", str(bag),
                                     "--teacher", str(tiny.teacher), "--teacher-input", "28", "56", "--out",
                                     str(config().out), "--steps", "2", "--workers", "0", "--accelerator", "cpu",
                                     "--options", "levels=2", "--voxel-size", "0.4", "--batch", "2"])
    main()
    assert "backbone.safetensors sha256" in capsys.readouterr().out


@pytest.fixture
def pretrained(config):
    train_backbone(settings := config(features=("position",)))
    return settings.out


@pytest.fixture
def student_config(tiny_config, tmp_path):
    """`student_config(**changes)`: the settings of a student with the inputs of `pretrained`."""
    given = dict(features=("position",))
    return lambda **changes: tiny_config(tmp_path / "student.safetensors", **given | changes)


def test_a_student_starts_from_the_file(student_config, pretrained, monkeypatch):
    train_student(settings := student_config(init=pretrained, learning_rate=1e-30, weight_decay=0.0))
    student = load_student(settings.out)
    parameters = dict(student.backbone.named_parameters())
    before = tensors(pretrained)
    assert all(torch.equal(before[name], parameter) for name, parameter in parameters.items())
    made = describe(settings.out)[1]
    assert made["init"] == str(pretrained) and made["init.command"] == "tttkd train distill"


def test_a_student_starts_from_another_student(student_config, tmp_path):
    train_student(settings := student_config(epochs=1))
    before = settings.out.rename(tmp_path / "before.safetensors")
    train_student(student_config(init=before, learning_rate=1e-30, weight_decay=0.0))
    first, second = (dict(load_student(path).backbone.named_parameters()) for path in (before, settings.out))
    assert equal(first, second)


def test_constants_of_the_backbone_come_from_the_file(config, student_config):
    options = dict(backbone="pne", options=PNE, features=("position",))
    train_backbone(settings := config(**options))
    train_student(student := student_config(**options, init=settings.out, seed=5, epochs=1))
    found = load_student(student.out).backbone.outputs_per_neighbour
    assert torch.equal(found, tensors(settings.out)["outputs_per_neighbour"])


def test_another_file_of_the_same_name_does_not_continue(config, student_config, pretrained, interrupt):
    undo = interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        train_student(student_config(init=pretrained))
    undo()
    train_backbone(config(features=("position",), seed=1))
    with pytest.raises(ValueError, match="holds another training .init_digest"):
        train_student(student_config(init=pretrained))


@pytest.mark.parametrize(("changes", "message"), [
    (dict(voxel_size=0.2), "voxel_size is 0.4, but the student's is 0.2"),
    (dict(options=("levels=3",)), "options is .*levels=2.*, but the student's is .*levels=3 .*"),
    (dict(backbone="pne", options=PNE), "backbone is scn, but the student's is pne"),
    (dict(features=("position=2",)), "inputs is position=1.0, but the student's is position=2.0"),
    (dict(features=()), "inputs is position=1.0, but the student's is none"),
])
def test_a_file_of_another_backbone_is_refused(student_config, pretrained, changes, message):
    with pytest.raises(ValueError, match=f"backbone.safetensors: {message}: give the settings of the file"):
        train_student(student_config(init=pretrained, **changes))


def test_inputs_in_another_order_are_refused(tmp_path):
    configs = [StudentConfig(options=dict(levels=2), inputs=inputs) for inputs in
               ({"intensity": 1, "position": 1}, {"position": 1, "intensity": 1})]
    save_student(Student(configs[0]), tmp_path / "student.safetensors", {})
    with pytest.raises(ValueError, match="is intensity=1 position=1, but the student's is position=1 intensity=1"):
        load_backbone(tmp_path / "student.safetensors", configs[1])


def test_other_files_are_refused(student_config, tiny, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file at .*none: name one of `tttkd train distill`, or a student"):
        train_student(student_config(init=tmp_path / "none"))
    with pytest.raises(ValueError, match="model.safetensors: format .*expected a file of `tttkd train distill`"):
        train_student(student_config(init=tiny.teacher / "model.safetensors"))
    torch.save({}, tmp_path / "model.pth")
    with pytest.raises(ValueError, match="model.pth: not a safetensors file.*expected a file of `tttkd train distill`"):
        train_student(student_config(init=tmp_path / "model.pth"))
    with pytest.raises(ValueError, match="the file to start from: name another file"):
        student_config(init=tmp_path / "student.safetensors")


@pytest.mark.parametrize(("init", "expected"), [("sim:a2d2:1x2", "simulation"), (None, "recordings")])
def test_a_student_that_starts_from_recordings_is_not_simulated(config, student_config, init, expected):
    changes = dict(features=("position",), epochs=1)
    train_backbone(before := config(**changes | ({"data": (init,)} if init else {})))
    train_student(settings := student_config(data=("sim:a2d2:1x2",), init=before.out, epochs=1))
    assert describe(settings.out)[1]["data"] == expected
