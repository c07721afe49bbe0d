"""Prepared frames: what is in them, when they are used again, and what stops their preparation."""

import shutil
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.targets import teacher_targets
from tttkd_ros.files import Unwritable
from tttkd_ros.geometry.projection import patch_index, project
from tttkd_ros.teacher.foundation_model import load_teacher
from tttkd_ros.training import preparation
from tttkd_ros.training.preparation import SUMMARY, FrameTeacher, prepare
from tttkd_ros.training.prepared import FrameSettings, read_frame

SETTINGS = FrameSettings(3, (), (2, 4), (28, 56))


@pytest.fixture
def frame_teacher(tiny):
    return FrameTeacher(str(tiny.teacher), "digest", "cpu")


def run(parts, folder, teacher=None, settings=SETTINGS, **options):
    return prepare(parts, folder, settings, teacher, quiet=True, **options)


def test_a_frame_holds_points_labels_patches_and_features(tiny, toy_part, frame_teacher, tmp_path):
    (part,) = run([source := toy_part(2)], tmp_path, frame_teacher)
    teacher = load_teacher(tiny.teacher, input_size=(28, 56), engine="eager")
    assert part.label_counts[:3].tolist() == [700, 700, 0]
    for frame, path in zip(source.frames, part.paths(), strict=True):
        prepared = read_frame(path)
        assert torch.equal(prepared.points.xyz, torch.from_numpy(frame.points))
        assert torch.equal(prepared.labels, torch.from_numpy(frame.labels))
        (view,) = frame.views
        projection = project(torch.from_numpy(frame.points), view.camera, view.camera_from_lidar)
        assert torch.equal(prepared.patches[0].long(), patch_index(projection, view.camera, (2, 4)))
        targets = teacher_targets(frame, teacher, torch.Generator())
        features = prepared.maps[0][prepared.patches[0, targets.index].long()]
        assert len(features) and torch.equal(features, targets.features.half())


def test_kept_images_give_the_same_features(tiny, toy_part, frame_teacher, tmp_path):
    cached, kept = (run([toy_part(1)], tmp_path, each)[0].paths()[0] for each in (frame_teacher, None))
    teacher = load_teacher(tiny.teacher, input_size=(28, 56), engine="eager")
    frame = read_frame(kept)
    assert frame.maps is None
    assert torch.equal(teacher.of_resized(frame.images).flatten(1, 2).half(), read_frame(cached).maps)


def test_points_that_no_student_can_take_are_left_out(toy_part, tmp_path):
    part = toy_part(1)
    part.frames[0].points[[3, 5]] = [[np.nan], [0]]
    frame = read_frame(run([part], tmp_path)[0].paths()[0])
    assert len(frame.points) == len(frame.labels) == frame.patches.shape[1] == len(part.frames[0].points) - 2
    assert torch.equal(frame.points.xyz[3], torch.from_numpy(part.frames[0].points[4]))


def test_prepared_frames_are_used_again(toy_part, tmp_path):
    run([toy_part()], tmp_path)
    again = toy_part()
    run([again], tmp_path)
    assert again.read == 0


@pytest.mark.parametrize("change", ["inputs", "settings", "teacher", "code"])
def test_other_inputs_are_prepared_anew(toy_part, frame_teacher, tmp_path, monkeypatch, change):
    run([toy_part()], tmp_path, frame_teacher)
    again = toy_part(version=1 if change == "inputs" else 0)
    settings = replace(SETTINGS, classes=4) if change == "settings" else SETTINGS
    teacher = replace(frame_teacher, digest="other") if change == "teacher" else frame_teacher
    if change == "code":
        monkeypatch.setattr(preparation, "code_version", lambda: "other")
    prepare([again], tmp_path, settings, teacher, quiet=True)
    assert again.read > 0


def test_an_interrupted_preparation_continues_with_the_next_part(toy_part, tmp_path):
    broken = toy_part(3, name="second")
    broken.frames[1] = OSError("the disk is gone")
    with pytest.raises(ValueError, match="second, sweep 1: the disk is gone"):
        run([toy_part(3, name="first"), broken], tmp_path)
    first, second = toy_part(3, name="first"), toy_part(3, name="second")
    parts = run([first, second], tmp_path)
    assert first.read == 0 and second.read >= 3
    assert [part.frames for part in parts] == [3, 3]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("change", "message"), [
    (lambda frame: replace(frame, labels=frame.labels[:-1]),
     r"toy, sweep 2: labels have shape \(699,\) for 700 points"),
    (lambda frame: replace(frame, labels=frame.labels + np.uint8(7)), "toy, sweep 2: label 9 is not below 3"),
    (lambda frame: ValueError("front.png is no image"), "toy, sweep 2: front.png is no image"),
    (lambda frame: replace(frame, views=(replace(frame.views[0], image=np.zeros((0, 0, 3), np.uint8)),)),
     "toy, sweep 2: image of shape"),
])
def test_a_bad_frame_in_the_middle_is_named(toy_part, tmp_path, workers, change, message):
    part = toy_part(4)
    part.frames[2] = change(part.frames[2])
    with pytest.raises(ValueError, match=message):
        run([part], tmp_path, workers=workers)
    assert not list(tmp_path.glob(f"*/{SUMMARY}"))


def test_no_more_than_one_frame_is_in_memory(toy_part, tmp_path):
    part, alive = toy_part(6), []
    frames, most = part.frames, []

    class Streaming(type(part)):
        def __iter__(self):
            for number in range(len(frames)):
                frame = replace(frames[number])
                alive.append(weakref.ref(frame))
                most.append(sum(each() is not None for each in alive))
                yield frame

    run([Streaming(frames)], tmp_path)
    assert len(most) >= 6 and max(most) <= 2


def test_workers_prepare_the_same_frames(toy_part, frame_teacher, tmp_path):
    parts = [toy_part(2, name=name) for name in ("one", "two", "three")]
    alone = run(parts, tmp_path / "alone", frame_teacher)
    shared = run(parts, tmp_path / "shared", frame_teacher, workers=2)
    for one, other in zip(alone, shared, strict=True):
        assert [path.read_bytes() for path in one.paths()] == [path.read_bytes() for path in other.paths()]


def test_a_part_without_sweeps_is_refused(toy_part, tmp_path):
    with pytest.raises(ValueError, match="toy has no sweep"):
        run([toy_part(0)], tmp_path)


def test_sweeps_without_labels_are_left_out_on_request(toy_part, tmp_path):
    part, settings = toy_part(3), replace(SETTINGS, labelled=True)
    part.frames[0] = replace(part.frames[0], labels=None)
    assert [run([part], tmp_path, settings=each)[0].frames for each in (SETTINGS, settings)] == [3, 2]
    part = toy_part(1, version=1)
    part.frames[0] = replace(part.frames[0], labels=None)
    with pytest.raises(ValueError, match="toy has no labelled sweep"):
        run([part], tmp_path, settings=settings)


def test_a_small_disk_is_found_before_it_is_full(toy_part, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6, 10**4))
    with pytest.raises(ValueError, match=r"need about .*kB in .*has 10.0 kB left: .*--cache"):
        run([toy_part(8)], tmp_path)


def test_a_full_disk_is_named(toy_part, tmp_path, monkeypatch):
    def full(*arguments):
        raise Unwritable("000001.safetensors cannot be written (No space left on device)")

    monkeypatch.setattr(preparation, "_require_space", lambda *arguments: None)
    monkeypatch.setattr(preparation, "write_frame", full)
    with pytest.raises(Unwritable, match="No space left"):
        run([toy_part()], tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"garbage", "cut"])
def test_a_damaged_frame_is_named(toy_part, tmp_path, content):
    path = run([toy_part()], tmp_path)[0].paths()[1]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-50] if content == "cut" else content)
    with pytest.raises(ValueError, match="000001.safetensors .*delete the folder"):
        read_frame(path)


def test_a_damaged_summary_is_named(toy_part, tmp_path):
    part = run([toy_part()], tmp_path)[0]
    (part.folder / SUMMARY).write_text("{")
    with pytest.raises(ValueError, match="summary.json is damaged: delete the folder"):
        run([toy_part()], tmp_path)
