"""Joint training learns, is repeatable and resumable, and stores the teacher's mean."""

import shutil

import numpy as np
import pytest
import torch

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.evaluation.metrics import mean_iou
from tttkd_ros.files import Unwritable
from tttkd_ros.segmenter.checkpoint import describe, load_student
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.training import loop, student_training
from tttkd_ros.training.curves import Curves
from tttkd_ros.training.student_training import train_student


@pytest.fixture
def out(tmp_path):
    return tmp_path / "student.safetensors"


def weights(path):
    return load_student(path).state_dict()


def differing(first, second):
    """Names of the tensors that differ, without the layers' numbers."""
    return {name.split(".")[0] for name in first if not torch.equal(first[name], second[name])}


def test_it_learns_its_training_domain(tiny, tiny_config, out, tmp_path, curve_suffixes):
    frames = tiny.frames(1)
    for frame in frames:
        frame.labels[:] = frame.points[:, 2] > 0
    data = (str(tiny.bag(tmp_path / "drive", frames)),)
    train_student(tiny_config(out, data=data, validation=data, features=("position",), epochs=20, validate_every=10))
    shutil.rmtree(tmp_path / "drive")
    student = load_student(out)
    accuracy = [(Segmenter(student).segment(frame.points).labels == frame.labels).mean() for frame in frames]
    assert np.mean(accuracy) > 0.8  # two classes
    assert student.teacher_mean.abs().max() > 0
    assert {path.suffix for path in out.parent.iterdir()} == {".safetensors"} | curve_suffixes
    assert (out.parent / "student.png").read_bytes().startswith(b"\x89PNG")


def test_the_provenance_has_sources_and_settings(tiny_config, bag, out):
    train_student(tiny_config(out))
    _, provenance = describe(out)
    assert provenance["sources"] == str(bag) and provenance["data"] == "recordings"
    assert provenance["learning_rate"] == "0.005" and "mix3d=0.0" in provenance["augmentation"]
    assert not load_student(out).simulated


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("features", ["cached", "computed"])
def test_a_resumed_training_equals_an_uninterrupted_one(tiny_config, out, tmp_path, interrupt, workers, features):
    options = dict(workers=workers, teacher_features=features, validation=())
    train_student(tiny_config(tmp_path / "whole.safetensors", workers=0, teacher_features=features))
    undo = interrupt(5)
    with pytest.raises(KeyboardInterrupt):
        train_student(tiny_config(out, **options))
    assert not out.exists() and out.with_suffix(".joint.pt").exists()
    undo()
    train_student(tiny_config(out, **options))
    assert not differing(weights(out), weights(tmp_path / "whole.safetensors"))
    assert not out.with_suffix(".joint.pt").exists()


def test_two_stages_resume_too(tiny_config, bag, out, tmp_path, interrupt):
    options = dict(distil_first=(str(bag),), save_every=1)
    train_student(tiny_config(tmp_path / "whole.safetensors", **options))
    undo = interrupt(5)  # of six steps, in the second stage
    with pytest.raises(KeyboardInterrupt):
        train_student(tiny_config(out, **options))
    undo()
    train_student(tiny_config(out, **options))
    assert not differing(weights(out), weights(tmp_path / "whole.safetensors"))


def test_other_settings_do_not_continue(tiny_config, out, interrupt):
    undo = interrupt(3)
    with pytest.raises(KeyboardInterrupt):
        train_student(tiny_config(out))
    undo()
    with pytest.raises(ValueError, match="holds another training .*lovasz 0.0 there, 1.0 here"):
        train_student(tiny_config(out, lovasz=1.0))


def test_a_cache_is_kept_and_used_again(tiny_config, out, tmp_path, monkeypatch):
    train_student(tiny_config(out, cache=tmp_path / "cache"))
    monkeypatch.setattr("tttkd_ros.training.preparation.prepare_frame", None)
    train_student(tiny_config(tmp_path / "again.safetensors", cache=tmp_path / "cache", lovasz=1.0))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(TypeError):
        train_student(tiny_config(out, cache=tmp_path / "cache"))


def test_a_damaged_frame_stops_the_training_and_keeps_its_state(tiny_config, out, tmp_path, monkeypatch):
    config = tiny_config(out, cache=tmp_path / "cache", epochs=6)
    add_losses = Curves.add_losses

    def damage(curves, step, losses):
        if step == 4:
            for path in (tmp_path / "cache").rglob("*.safetensors"):
                path.write_bytes(path.read_bytes()[:100])
        add_losses(curves, step, losses)

    monkeypatch.setattr(Curves, "add_losses", damage)
    with pytest.raises(ValueError, match="prepared frame .*damaged: delete the folder"):
        train_student(config)
    monkeypatch.undo()
    state = torch.load(out.with_suffix(".joint.pt"), weights_only=True)
    assert state["next"] == 4


def test_a_full_disk_at_a_state_keeps_the_one_before(tiny_config, out, monkeypatch):
    write, written = loop.write_whole, []

    def full(path, content):
        written.append(path)
        if len(written) > 1:
            raise Unwritable(f"{path} cannot be written (No space left on device): free space on that disk")
        write(path, content)

    monkeypatch.setattr(loop, "write_whole", full)
    with pytest.raises(Unwritable, match="No space left .*the same command continues after step 2"):
        train_student(tiny_config(out))
    assert torch.load(out.with_suffix(".joint.pt"), weights_only=True)["next"] == 2


@pytest.fixture
def distil_first(tiny_config, bag, tiny, out, monkeypatch):
    """`distil_first(**changes)`: train in two stages. Return the weights after the first one and after both."""

    def run(frames=None):
        found = []
        train = student_training.train

        def spy(fabric, module, *arguments, **options):
            train(fabric, module, *arguments, **options)
            found.append({name: tensor.clone() for name, tensor in module.student.state_dict().items()})

        other = tiny.bag(out.parent / f"other_{len(list(out.parent.iterdir()))}",
                         tiny.frames(2, 4) if frames is None else frames)
        monkeypatch.setattr(student_training, "train", spy)
        train_student(tiny_config(out, distil_first=(str(bag), str(other))))
        monkeypatch.setattr(student_training, "train", train)
        return found

    return run


def test_after_distillation_the_class_head_alone_is_trained(distil_first):
    assert differing(*distil_first()) == {"class_head"}


def test_distillation_uses_every_source_and_labels_of_the_data_alone(distil_first, tiny):
    _, student = distil_first()
    unlabelled = tiny.frames(2, 4)
    for frame in unlabelled:
        frame.labels[:] = UNLABELLED
    assert not differing(student, distil_first(unlabelled)[1])
    assert "backbone" in differing(student, distil_first(tiny.frames(3, 4))[1])


def test_without_distillation_there_is_no_teacher(tiny_config, out, tmp_path):
    train_student(tiny_config(out, distillation=0.0, teacher=tmp_path / "none"))
    assert load_student(out).config.teacher_dim == 0


@pytest.mark.parametrize("changes", [
    dict(lovasz=1.0, label_smoothing=0.2, class_weights="none"), dict(precision="bf16-mixed"),
    dict(schedule="steps", steps=5), dict(point_range=(-5, -5, -5, 5, 5, 5)), dict(teacher_features="computed"),
])
def test_it_trains_with_other_settings(tiny_config, out, tmp_path, changes):
    train_student(tiny_config(tmp_path / "default.safetensors"))
    train_student(tiny_config(out, **changes))
    found = weights(out)
    assert all(tensor.isfinite().all() for tensor in found.values())
    assert "backbone" in differing(found, weights(tmp_path / "default.safetensors"))


def test_a_student_is_trained_with_another_backbone_and_features(tiny_config, out):
    features = ("intensity=0.5", "normal", "position")
    options = ("widths=[8,16]", "blocks=1", "decoder_blocks=0", "head=8")
    train_student(tiny_config(out, data=("sim:a2d2:1x2",), backbone="pne", features=features, options=options,
                              epochs=1, teacher_input=(14, 28)))
    student = load_student(out)
    assert student.config.backbone == "pne" and student.config.options["widths"] == (8, 16)
    assert student.config.inputs == {"intensity": 0.5, "normal": 1.0, "position": 1.0}
    assert student.backbone.outputs_per_neighbour.std() > 0  # it was calibrated
    assert student.simulated


@pytest.mark.parametrize(("changes", "message"), [
    (dict(backbone="scm"), "'scm' is unknown, expected one of .*pne"), (dict(options=("depth=3",)), "no option depth"),
    (dict(options=("levels",)), "'levels': expected name=number"), (dict(options=("levels=2", "levels=3")), "twice"),
    (dict(features=("time",)), "sweep 0: the student takes time of every point"),
    (dict(data=()), "name sources with --data"),
    (dict(data=("nothing",)), "no bag at nothing"), (dict(teacher="nothing"), "no teacher at 'nothing'"),
    (dict(class_set="nothing"), "class set 'nothing'"), (dict(batch=7), "there are 6 frames, but a step takes 7"),
])
def test_a_training_that_cannot_be_is_refused(tiny_config, out, changes, message):
    with pytest.raises(ValueError, match=message):
        train_student(tiny_config(out, **changes))
    assert not out.exists()


def test_data_without_labels_are_refused(tiny, tiny_config, out, tmp_path):
    frames = tiny.frames()
    for frame in frames:
        frame.labels[:] = UNLABELLED
    with pytest.raises(ValueError, match="drive has no labels of the classes outdoor10.*--distil-first"):
        train_student(tiny_config(out, data=(str(tiny.bag(tmp_path / "drive", frames)),)))


def test_validation_is_the_miou_of_the_student(tiny, tiny_config, bag, out, monkeypatch):
    added = []
    monkeypatch.setattr(Curves, "add", lambda curves, name, step, value: added.append((name, step, value)))
    train_student(tiny_config(out, validation=(str(bag),)))
    student = Segmenter(load_student(out))
    matrix = np.zeros((10, 11), np.int64)
    for frame in tiny.frames(1):
        np.add.at(matrix, (frame.labels, np.minimum(student.segment(frame.points).labels, 10)), 1)
    (last,) = [value for name, step, value in added if (name, step) == ("mIoU/mean", 6)]
    assert last == pytest.approx(mean_iou(matrix))
    assert ("mIoU/mean", 3) in [each[:2] for each in added]
