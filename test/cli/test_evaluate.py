"""`tttkd evaluate` on a short simulated bag, with random models."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_teacher import save_tiny_teacher

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import load_class_set
from tttkd_ros.cli import main
from tttkd_ros.cli.evaluate import evaluate
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.simulation.drive import frames


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    torch.manual_seed(0)
    student = Student(StudentConfig(options=dict(levels=2), voxel_size=0.3, teacher_dim=16, teacher_input=(28, 84)))
    save_student(student, folder / "student.safetensors", {"made": "for a test"})
    save_tiny_teacher(folder / "teacher")
    with BagWriter(folder / "bag") as bag:
        for frame in frames("kitti", 1, 4):
            bag.write_frame(frame)
    return folder


def run(files, **settings):
    evaluate((files / "bag",), model=files / "student.safetensors", teacher=str(files / "teacher"), engine="eager",
             **settings)


def test_every_method_is_a_row_and_the_file_is_the_same_bytes_each_time(files, tmp_path, capsys):
    methods = "frozen", "ttt-kd-o", "ttt-kd"
    for name in ("first.json", "second.json"):
        run(files, method=methods, stride=(2,), learning_rate=(0.1,), steps=(1,), guard=False,
            json_file=tmp_path / name)
    printed = capsys.readouterr().out
    assert "frozen" in printed and "ttt-kd-o, stride 2, lr 0.1" in printed
    first = (tmp_path / "first.json").read_bytes()
    assert first == (tmp_path / "second.json").read_bytes()
    results = json.loads(first)["results"]
    assert [(result["method"], result["steps_accepted"]) for result in results] == [
        ("frozen", 0), ("ttt-kd-o", 2), ("ttt-kd", 4)
    ]
    assert all(0 <= result["miou"] <= 100 and result["sweeps"] == 4 for result in results)


def test_frozen_needs_no_teacher_and_a_limit_shortens_the_run(files, tmp_path):
    evaluate((files / "bag",), method=("frozen",), model=files / "student.safetensors", teacher="nowhere", limit=2,
             json_file=tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())["results"][0]["sweeps"] == 2


def test_a_missing_bag_is_named(files):
    with pytest.raises(ValueError, match="nowhere"):
        evaluate((files / "nowhere",), model=files / "student.safetensors", method=("frozen",))


def test_without_a_camera_only_frozen_runs_and_the_reason_is_printed(files, tmp_path, capsys):
    with BagWriter(tmp_path / "blind") as bag:
        for frame in frames("kitti", 1, 2):
            bag.write_frame(replace(frame, views=()))
    evaluate((tmp_path / "blind",), method=("ttt-kd-o",), model=files / "student.safetensors", teacher="nowhere",
             json_file=tmp_path / "out.json")
    printed = " ".join(capsys.readouterr().err.split())
    assert "left out: ttt-kd-o, stride 5, lr 0.3: the bag has no camera to adapt by (there is none)" in printed
    assert [result["method"] for result in json.loads((tmp_path / "out.json").read_text())["results"]] == ["frozen"]


def test_label_files_and_cameras_can_be_chosen(files, tmp_path):
    (tmp_path / "labels").mkdir()
    for index, frame in enumerate(frames("kitti", 1, 4)):
        np.full(len(frame.points), 40, "<u4").tofile(tmp_path / "labels" / f"{index:06}.label")
    evaluate((files / "bag",), method=("ttt-kd-o",), model=files / "student.safetensors", teacher="nowhere", cameras=(),
             labels=tmp_path / "labels", json_file=tmp_path / "out.json")
    (result,) = json.loads((tmp_path / "out.json").read_text())["results"]
    assert [name for name, iou in result["iou"].items() if iou is not None] == ["road"]


def test_recordings_of_the_node_are_runs_beside_replayed_ones(files, tmp_path, capsys, record_answers, without_page):
    drive = list(frames("kitti", 1, 4))
    recording = record_answers(tmp_path / "recording", drive[:3])
    run(files, method=("frozen",), recording=(recording,), out=tmp_path / "out")
    printed = capsys.readouterr()
    assert "live: 3 of 4 sweeps have a prediction" in printed.err
    assert "live" in printed.out
    _, live = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert (live["run"], live["sweeps_received"], live["sweeps_sent"]) == ("live", 3, 4)
    assert 50 < live["miou"] < 100  # right where it is answered
    assert 0 <= live["agreement"] < 100


def test_a_recording_is_of_one_bag(files, tmp_path):
    with pytest.raises(ValueError, match="2 drives and recordings are given"):
        evaluate((files / "bag", tmp_path), recording=(tmp_path,))


@pytest.fixture
def without_page(monkeypatch):
    """The page takes seconds to make and has tests of its own."""
    monkeypatch.setattr("tttkd_ros.evaluation.page.write_page", lambda *_: None)


@pytest.fixture
def shifted(files, tmp_path):
    """`shifted(seconds)`: the bag with its images stamped so much later, as it was recorded."""

    def write(seconds):
        with BagWriter(tmp_path / f"shifted{seconds}") as bag:
            for frame in frames("kitti", 1, 4):
                (view,) = frame.views
                bag.write_static(frame.views)
                late = replace(view, stamp=view.stamp + round(seconds * 10**9))
                bag.write_frame(replace(frame, views=(late,)))
        return tmp_path / f"shifted{seconds}"

    return write


def adapted(files, bag, **options):
    evaluate((bag,), method=("ttt-kd-o",), stride=(1,), model=files / "student.safetensors", guard=False,
             teacher=str(files / "teacher"), engine="eager", **options)


@pytest.mark.parametrize("seconds", [-0.1, 0.09])
def test_an_offset_matches_later_images_and_is_an_input(files, shifted, tmp_path, without_page, seconds):
    bag = shifted(seconds)
    adapted(files, bag, offset=(seconds,), tolerance=0.001, out=tmp_path / "out")
    _, run = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert run["steps_accepted"] == 4 and run["problems"] == []
    for changed in ({"offset": (0.5,)}, {"tolerance": 0.01}, {"fixed_frame": ""}, {"truth": False}):
        (name,) = changed
        with pytest.raises(ValueError, match=f"settings.{name}: .* then, .* now"):
            adapted(files, bag, **{"offset": (seconds,), "tolerance": 0.001, "out": tmp_path / "out"} | changed)


def test_rejected_steps_are_explained_on_the_terminal_and_in_every_report(files, shifted, tmp_path, capsys):
    bag = shifted(0.03)
    explanation = "4 of 4 steps were refused: no camera image: camera_front: the nearest image is 0.0"
    for _ in range(2):  # computed, then read from the folder
        adapted(files, bag, tolerance=0.01, out=tmp_path / "out")
        assert explanation in capsys.readouterr().err
    assert explanation in (tmp_path / "out" / "report.html").read_text()
    (_, run) = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert run["problems"][0].startswith(explanation)


@pytest.mark.parametrize("scale", [1000, 300, -2000])
def test_clouds_out_of_range_are_reported(files, tmp_path, capsys, scale):
    with BagWriter(tmp_path / "far") as bag:
        for frame in frames("kitti", 1, 2):
            bag.write_frame(replace(frame, points=np.float32(scale) * frame.points))
    evaluate((tmp_path / "far",), method=("frozen",), model=files / "student.safetensors", teacher="nowhere")
    assert "far, frozen: 2 of 2 sweeps: " in capsys.readouterr().err


def test_without_truth_the_classes_of_source_and_student_may_differ(tmp_path):
    student = Student(StudentConfig(load_class_set("waymo22"), voxel_size=0.3, options=dict(levels=2), teacher_dim=0))
    save_student(student.eval(), tmp_path / "student.safetensors", {"made": "for a test"})
    given = dict(method=("frozen",), model=tmp_path / "student.safetensors", json_file=tmp_path / "out.json")
    with pytest.raises(ValueError, match="class set 'waymo22' says nothing of 'outdoor10'"):
        evaluate(("sim:kitti:1x2",), **given)
    evaluate(("sim:kitti:1x2",), truth=False, **given)
    assert json.loads((tmp_path / "out.json").read_text())["results"][0]["sweeps"] == 2


def test_truth_can_be_ignored(files, tmp_path):
    evaluate((files / "bag",), method=("frozen",), model=files / "student.safetensors", teacher="nowhere", truth=False,
             json_file=tmp_path / "out.json")
    (result,) = json.loads((tmp_path / "out.json").read_text())["results"]
    assert result["sweeps_with_truth"] == 0


@pytest.mark.parametrize(
    "options",
    [{"offset": (math.nan,)}, {"offset": (0.0, 0.0)}, {"tolerance": -1.0}, {"tolerance": math.inf},
     {"truth": False, "labels": Path("labels")}],
)
def test_impossible_options_are_refused(files, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        evaluate((files / "bag",), method=("frozen",), model=files / "student.safetensors", **options)


@pytest.mark.parametrize("words", ["-37", "-0.02", "1.7e9"])
def test_an_offset_is_accepted_as_it_is_printed(files, tmp_path, without_page, monkeypatch, words):
    monkeypatch.setattr("sys.argv", ["tttkd", "evaluate", str(files / "bag"), "--method", "frozen", "--offset", words,
                                     "--model", str(files / "student.safetensors"), "--out", str(tmp_path / "out"),
                                     "--limit", "1"])
    main()
    assert json.loads((tmp_path / "out" / "inputs.json").read_text())["settings"]["offset"] == [float(words)]


def test_paper_means_no_guard_frozen_statistics_and_whole_clouds(files, tmp_path):
    options = {"paper": True, "bn_momentum": (0.005,), "json_file": tmp_path / "json"}
    run(files, method=("ttt-kd-o",), limit=2, stride=(1,), **options)
    settings = json.loads((tmp_path / "json").read_text())["results"][1]["settings"]
    assert (settings["guard"], settings["bn_momentum"], settings["crop"]) == (False, 0.0, 0.0)
