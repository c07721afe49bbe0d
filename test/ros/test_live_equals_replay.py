"""The node over DDS labels a bag as its lossless replay does, point for point, as long as nothing is dropped.

The bag is played in step with the node: the next sweep is sent when the answer to the last one, and the outcome of the
step that replay took after it, have arrived. No sweep is waited for by the clock, and none overtakes a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import torch  # noqa: E402
from sensor_msgs.msg import PointCloud2  # noqa: E402

from tttkd_ros.adaptation.config import TTTConfig  # noqa: E402
from tttkd_ros.bags.storage import open_bag  # noqa: E402
from tttkd_ros.bags.topics import POINTS_TOPIC  # noqa: E402
from tttkd_ros.bags.writer import BagWriter  # noqa: E402
from tttkd_ros.evaluation.drives import BagDrive  # noqa: E402
from tttkd_ros.evaluation.models import load_models  # noqa: E402
from tttkd_ros.evaluation.replay import RunConfig, replay  # noqa: E402
from tttkd_ros.geometry.rig import RigCamera, save_rig  # noqa: E402
from tttkd_ros.messages.point_cloud import decode_field  # noqa: E402
from tttkd_ros.messages.stamps import nanoseconds  # noqa: E402
from tttkd_ros.segmenter.checkpoint import load_student, save_student  # noqa: E402
from tttkd_ros.simulation.drive import frames  # noqa: E402

METHODS = "frozen", "ttt-kd-o"
SWEEPS = 8
SEED = 3
# So small a part of the points that other random draws would give other labels.
CONFIG = TTTConfig(stride=2, learning_rate=0.1, kd_points=100, guard=False)
# Reliable, with room for all; a step waits for its sweep's image; no deadline makes adaptation give way.
LOSSLESS = {"qos.depth": 50, "queue": 50, "matching.wait": 10.0, "deadline": 60.0}


@dataclass(frozen=True)
class Files:
    bag: Path
    rig: Path
    student: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory, models) -> Files:
    """A simulated drive as a bag, its rig, and the random student, none of whose classes wins everywhere."""
    folder = tmp_path_factory.mktemp("drive")
    files = Files(folder / "bag", folder / "rig.yaml", folder / "student.safetensors")
    with BagWriter(files.bag) as bag:
        for frame in frames("kitti", 4, SWEEPS):
            bag.write_frame(frame)
    save_rig(files.rig, {view.name: RigCamera(view.camera_from_lidar, view.camera) for view in frame.views})
    student = load_student(models.student, "cpu").eval()
    with torch.no_grad():
        logits = student.logits(student(torch.tensor(frame.points)))
        student.class_head[-1].bias -= logits.mean(0)
    save_student(student, files.student, {"made": "for a test"})
    return files


@pytest.fixture(scope="module")
def replayed(files, models) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """Method -> labels (N,) and confidence (N,) by the sweeps' stamps."""
    student, teacher = load_models(files.student, str(models.teacher), engine="eager")
    runs = {}
    for name in METHODS:
        answers = runs[name] = {}
        result = replay(
            BagDrive(files.bag, rig=files.rig), student, teacher, RunConfig(name, CONFIG, seed=SEED),
            on_sweep=lambda frame, said, answers=answers: answers.update({frame.stamp: (said.labels, said.confidence)}),
        )
    assert [stamp for stamp, _ in result.losses] == list(answers)[:: CONFIG.stride]
    return runs


@pytest.fixture(scope="module")
def live(files, models, start_node, ros) -> dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]:
    """As `replayed`, from two nodes that heard the bag together."""
    teachers = {"frozen": "", "ttt-kd-o": str(models.teacher)}
    nodes = [
        start_node({
            "model": str(files.student), "teacher": teachers[name], "rig": str(files.rig), "engine": "eager",
            "seed": SEED, "ttt.stride": CONFIG.stride, "ttt.learning_rate": CONFIG.learning_rate,
            "ttt.kd_points": CONFIG.kd_points, "ttt.guard": CONFIG.guard,
        } | LOSSLESS, "-r", f"__node:={node_name(name)}")
        for name in METHODS
    ]
    for node, ready in zip(nodes, ("active: waiting for sweeps", "ready to adapt"), strict=True):
        node.wait_for(ready, 120)
    talker = ros.Talker(node_name("ttt-kd-o"))
    talker.listen(PointCloud2, f"/{node_name('frozen')}/points_labeled")
    publishers = {
        POINTS_TOPIC: talker.points, "/camera_front/image": talker.images, "/camera_front/camera_info": talker.infos
    }
    answers = {name: talker.heard[f"/{node_name(name)}/points_labeled"] for name in METHODS}

    def settled() -> bool:
        """Whether every sweep sent is answered by both, and every step due is taken."""
        answered = all(len(clouds) == sent for clouds in answers.values())
        return answered and len(talker.reports()) == math.ceil(sent / CONFIG.stride)

    try:
        talker.until(lambda: talker.connected() and all(
            publisher.get_subscription_count() == len(nodes) for publisher in publishers.values()
        ))
        sent = 0
        with open_bag(files.bag) as bag:
            for record in bag.messages(publishers):
                if record.topic == POINTS_TOPIC:
                    talker.until(settled)
                    sent += 1
                publishers[record.topic].publish(record.data)
        talker.until(settled)
    finally:
        talker.close()
    assert [node.end() for node in nodes] == [0, 0]
    return {
        name: {
            nanoseconds(cloud.header.stamp): (decode_field(cloud, "label"), decode_field(cloud, "confidence"))
            for cloud in clouds
        }
        for name, clouds in answers.items()
    }


def node_name(method: str) -> str:
    return method.replace("-", "_")


@pytest.mark.parametrize("name", METHODS)
def test_the_node_labels_every_point_as_replay_does(live, replayed, name):
    assert list(live[name]) == list(replayed[name])
    for stamp, (labels, confidence) in replayed[name].items():
        np.testing.assert_array_equal(live[name][stamp][0], labels)
        np.testing.assert_array_equal(live[name][stamp][1], confidence)


def test_adaptation_is_seen_in_what_is_compared(replayed):
    first, *later = replayed["frozen"]
    frozen, adapted = (replayed[name] for name in METHODS)
    np.testing.assert_array_equal(adapted[first][0], frozen[first][0])
    assert all((adapted[stamp][0] != frozen[stamp][0]).any() for stamp in later)
