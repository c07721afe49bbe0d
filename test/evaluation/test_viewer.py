"""The recording for the Rerun viewer."""

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.cli.evaluate import evaluate
from tttkd_ros.evaluation.replay import RunConfig
from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.runs import BagResults
from tttkd_ros.evaluation.viewer import run_to_show
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.simulation.drive import frames

SWEEPS = 3


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewer")
    torch.manual_seed(0)
    student = Student(StudentConfig(options=dict(levels=2), voxel_size=0.3, teacher_dim=16, teacher_input=(28, 84)))
    save_student(student, folder / "student.safetensors", {})
    with BagWriter(folder / "bag") as bag:
        for frame in frames("kitti", 1, SWEEPS):
            bag.write_frame(frame)
    return folder


def record(files, path, method="tent", **settings):
    evaluate((files / "bag",), method=(method,), stride=(2,), model=files / "student.safetensors", teacher="nowhere",
             rerun=path, **settings)


@pytest.mark.parametrize(("method", "labellings"), [
    ("tent", {"truth", "frozen", r"tent\,\ stride\ 2"}), ("frozen", {"truth", "frozen"}),
])  # fmt: skip
def test_every_sweep_is_recorded_with_cloud_image_and_labels(files, tmp_path, method, labellings):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: the extra rerun has it")
    path = tmp_path / "evaluation.rrd"
    record(files, path, method)
    printed = subprocess.run([sys.executable, "-m", "rerun_cli", "rrd", "print", str(path)], capture_output=True,
                          text=True, timeout=60, check=True).stdout
    rows = Counter()  # how many of them are together in a chunk depends on the time that they took
    for count, entity in re.findall(r" with (\d+) rows .*? - /bag/(.*?) - ", printed):
        rows[entity] += int(count)
    rows.pop("loss", None)
    curves = {f"mIoU/{name}" for name in labellings - {"truth"}}
    assert rows == dict.fromkeys(labellings | curves | {"camera/camera_front"}, SWEEPS)
    assert not list(tmp_path.glob("*.unfinished"))


def test_the_frozen_student_is_shown_if_nothing_adapts():
    methods = [RunConfig("frozen", shift_z=1.0), RunConfig("tent", shift_z=1.0)]
    frozen = Result("frozen", ("a",), np.arange(1), np.zeros((1, 2, 1, 2), np.int64), {"shift_z": 1.0})
    assert frozen.title == "frozen, z shift 1.0"
    assert run_to_show(BagResults("bag", 1, (frozen,)), methods) is methods[0]


def test_a_shifted_frozen_student_is_recorded(files, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: the extra rerun has it")
    record(files, tmp_path / "evaluation.rrd", "frozen", shift_z=1.0)
    assert (tmp_path / "evaluation.rrd").stat().st_size > 0


def test_without_rerun_sdk_nothing_runs(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"pip install 'tttkd_ros\[rerun\]'"):
        record(files, tmp_path / "evaluation.rrd")
    assert capsys.readouterr() == ("", "") and not list(tmp_path.iterdir())
