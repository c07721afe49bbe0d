"""A running node with a student of the user's own classes."""

import json

import pytest
import torch

from tttkd_ros.classes import ClassSet
from tttkd_ros.messages.point_cloud import decode_field
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig

pytest.importorskip("rclpy")

OWN = ClassSet("own2", ("thing", "ground"), ((1, 2, 3), (4, 5, 6)))


def test_the_node_publishes_the_classes_and_colours_of_its_checkpoint(start_node, ros, tmp_path):
    torch.manual_seed(0)
    save_student(Student(StudentConfig(class_set=OWN, options=dict(levels=2), voxel_size=0.3)), tmp_path / "own", {})
    node = start_node({"model": str(tmp_path / "own"), "teacher": "", "cameras": [""]}, "-r", "__node:=own")
    node.wait_for("active: waiting for sweeps")
    talker = ros.Talker("own")
    try:
        talker.until(lambda: talker.heard["/own/label_info"])
        info = json.loads(talker.heard["/own/label_info"][0].data)
        assert (info["class_set"], ClassSet.of_label_info(json.dumps(info))) == ("own2", OWN)
        talker.until(lambda: talker.points.get_subscription_count())
        (answer,) = talker.answer(ros.cloud(100 * 10**9))
        labels = decode_field(answer, "label")
        colours = decode_field(answer, "rgb").view("u4")
        expected = [int.from_bytes(bytes(OWN.palette[label]), "big") for label in labels.tolist()]
        assert colours.tolist() == expected and set(labels.tolist()) <= {0, 1, 255}
    finally:
        talker.close()
