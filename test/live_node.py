"""The node as a process of its own, its small random models, and what a client needs to talk to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Models:
    student: Path
    teacher: Path
    rig: Path


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Models:
    """Random weights of the right shapes: they label nonsense, but in the way that real ones do."""
    import torch
    from tiny_teacher import save_tiny_teacher

    from tttkd_ros.segmenter.checkpoint import save_student
    from tttkd_ros.segmenter.student import Student, StudentConfig

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = StudentConfig(
        options=dict(channels=4, levels=2), head_width=8, teacher_dim=24, teacher_input=(28, 56), voxel_size=0.5
    )
    save_student(Student(config), folder / "student.safetensors", {"made": "at random, for tests"})
    save_tiny_teacher(folder / "teacher", embed_dim=24, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    (folder / "rig.yaml").write_text(  # LiDAR x forward, y left, z up; camera x right, y down, z forward
        "cameras: {camera_front: {camera_from_lidar: {matrix: "
        "[[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]}}}\n"
    )
    return Models(folder / "student.safetensors", folder / "teacher", folder / "rig.yaml")


class NodeProcess:
    """`python -m tttkd_ros.ros.node` with its output in a file."""

    def __init__(self, log: Path, parameters: dict[str, object], *arguments: str):
        command = [sys.executable, "-m", "tttkd_ros.ros.node", "--ros-args", "-r", "points:=/lidar/points", *arguments]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={json.dumps(value)}"]
        self._log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY,
                                            env=os.environ | {"PYTHONUNBUFFERED": "1"})

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"no {text!r} within {seconds} s:\n{self.log}"
            time.sleep(0.05)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="module")
def start_node(tmp_path_factory):
    """`start_node(parameters, *arguments)`: a process that ends with the module at the latest."""
    running: list[NodeProcess] = []

    def start(parameters: dict[str, object], *arguments: str) -> NodeProcess:
        parameters = {"ttt.guard": False} | parameters  # which objects to random models, rightly
        running.append(NodeProcess(tmp_path_factory.mktemp("node") / "log", parameters, *arguments))
        return running[-1]

    yield start
    for node in running:
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait()


@pytest.fixture(scope="session")
def ros() -> ModuleType:
    """The makers of messages and `Talker`, the client; skips without rclpy."""
    pytest.importorskip("rclpy")
    import ros_client

    return ros_client
