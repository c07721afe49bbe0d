"""`evaluate.launch.py` as `ros2 launch` runs it: a bag goes in, the live run beside the replayed ones comes out.

Needs ros2launch, which comes with a ROS distribution, and the package installed into a prefix on AMENT_PREFIX_PATH.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_teacher import save_tiny_teacher

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.geometry.rig import RigCamera, save_rig
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.simulation.drive import frames

pytestmark = pytest.mark.usefixtures("ros2_launch")

SWEEPS = 6
PARAMETERS = """/**:
  ros__parameters:
    cameras: [camera_front]
    engine: eager
    qos.reliability: reliable
    qos.depth: 50
    queue: 50
    ttt.stride: 2
    ttt.guard: false
"""


@dataclass(frozen=True)
class Files:
    bag: Path
    rig: Path
    model: Path
    teacher: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    files = Files(folder / "drive", folder / "rig.yaml", folder / "student.safetensors", folder / "teacher")
    with BagWriter(files.bag) as bag:
        for frame in frames("kitti", 1, SWEEPS):
            bag.write_frame(frame)
    save_rig(files.rig, {view.name: RigCamera(view.camera_from_lidar, view.camera) for view in frame.views})
    student = StudentConfig(options=dict(channels=4, levels=2), voxel_size=0.5, teacher_dim=16, teacher_input=(28, 84))
    save_student(Student(student), files.model, {"made": "for a test"})
    save_tiny_teacher(files.teacher)
    return files


@pytest.fixture
def launch(tmp_path, files):
    """`launch(parameters, bag=...)`: what `ros2 launch` printed, and its exit code."""

    def run(parameters: str = PARAMETERS, **arguments) -> tuple[str, int]:
        (tmp_path / "parameters.yaml").write_text(parameters)
        given = {"rig": files.rig, "model": files.model, "teacher": files.teacher,
                 "params_file": tmp_path / "parameters.yaml", "out": tmp_path / "live"} | arguments
        done = subprocess.run(
            ["ros2", "launch", "tttkd_ros", "evaluate.launch.py", *(f"{name}:={it}" for name, it in given.items())],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=os.environ | {"ROS_LOG_DIR": str(tmp_path / "log")},
        )
        return done.stdout, done.returncode

    return run


def test_the_live_run_is_shown_beside_the_replayed_ones(launch, files, tmp_path):
    output, code = launch(bag=files.bag, player="own")
    assert code == 0, output
    results = json.loads((tmp_path / "live" / "evaluation" / "results.json").read_text())["results"]
    assert [result["method"] for result in results] == ["frozen", "ttt-kd-o", "live"]
    assert (results[2]["sweeps_sent"], results[2]["sweeps_received"]) == (SWEEPS, SWEEPS), output
    assert results[2]["settings"]["stride"] == results[1]["settings"]["stride"] == 2
    assert f"live, stride 2, lr 1.0: {SWEEPS} of {SWEEPS} sweeps have a prediction" in output
    assert "IoU of each class" in output


def test_without_a_bag_it_says_so(launch):
    output, code = launch()
    assert code == 1
    assert "missing required argument 'bag'" in output


def test_what_is_wrong_with_the_bag_is_told_before_anything_starts(launch, tmp_path):
    output, code = launch(bag=tmp_path / "nowhere")
    assert code == 1
    assert f"no bag at {tmp_path / 'nowhere'}" in output
    assert "process started" not in output


@pytest.mark.parametrize(("argument", "value"), [("rate", "0"), ("rate", "fast"), ("player", "gramophone")])
def test_what_is_wrong_with_an_argument_is_told_before_anything_starts(launch, files, argument, value):
    output, code = launch(bag=files.bag, **{argument: value})
    assert code == 1
    assert f"{argument} is '{value}', expected" in output
    assert "process started" not in output


def test_a_process_that_fails_ends_it_all(launch, files):
    output, code = launch(PARAMETERS + "    device: cuda:99\n", bag=files.bag, player="own")
    assert code == 1
    assert "ended with code 1: its output says why" in output
