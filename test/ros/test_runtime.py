"""Configuring a node of this process with what does not fit: refused with the reason, nothing left behind."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import PointCloud2  # noqa: E402

from tttkd_ros.adaptation.config import TTTConfig  # noqa: E402
from tttkd_ros.monitoring.statistics import Statistics  # noqa: E402
from tttkd_ros.ros.runtime import Runtime  # noqa: E402
from tttkd_ros.ros.settings import Settings  # noqa: E402


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("configured_in_vain", context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def settings(models):
    return Settings(
        model=str(models.student), teacher=str(models.teacher), rig=str(models.rig), engine="eager", device="cpu"
    )


def topics_of(node):
    """Its own alone: other tests' nodes may come and go."""
    name = node.get_name(), node.get_namespace()
    return node.get_publisher_names_and_types_by_node(*name), node.get_subscriber_names_and_types_by_node(*name)


def refusal(node, settings) -> str:
    topics, threads = topics_of(node), threading.active_count()
    with pytest.raises((ValueError, OSError)) as refused:
        Runtime(node, settings, TTTConfig(), Statistics())
    assert topics_of(node) == topics
    assert threading.active_count() == threads
    return str(refused.value)


def test_a_missing_rig(node, settings):
    assert "no such file or directory: /nowhere.yaml" in refusal(node, replace(settings, rig="/nowhere.yaml"))


def test_a_rig_without_the_camera(node, settings):
    reason = refusal(node, replace(settings, cameras=("camera_front", "camera_rear")))
    assert "has no camera camera_rear (/camera_rear/image); it has camera_front" in reason


def test_neither_rig_nor_tf(node, settings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "no rig file given (parameter 'rig')" in refusal(node, replace(settings, rig=""))


def test_a_missing_model(node, settings):
    assert "'no/model' is not in" in refusal(node, replace(settings, model="no/model"))


def test_a_truncated_checkpoint(node, settings, models, tmp_path):
    short = tmp_path / "short.safetensors"
    short.write_bytes(models.student.read_bytes()[:-100])
    assert str(short) in refusal(node, replace(settings, model=str(short)))


def test_a_teacher_of_another_width(node, settings, models, tmp_path):
    from tttkd_ros.segmenter.checkpoint import save_student
    from tttkd_ros.segmenter.student import Student, StudentConfig

    save_student(Student(StudentConfig(options=dict(channels=4, levels=2), teacher_dim=32, teacher_input=(28, 56))),
                 tmp_path / "other.safetensors", {})
    reason = refusal(node, replace(settings, model=str(tmp_path / "other.safetensors")))
    assert "24" in reason and "32" in reason


def test_a_teacher_that_is_no_model(node, settings, tmp_path):
    (tmp_path / "teacher").mkdir()
    assert str(tmp_path / "teacher") in refusal(node, replace(settings, teacher=str(tmp_path / "teacher")))


def test_a_hub_model_that_was_not_downloaded(node, settings):
    teacher = "timm/vit_base_patch14_dinov2.absent"
    assert f"hf download {teacher}" in refusal(node, replace(settings, teacher=teacher))


def test_compressed_images_come_on_image_transports_topic(node, settings):
    runtime = Runtime(node, replace(settings, image_transport="compressed", teacher=""), TTTConfig(), Statistics())
    topics = dict(node.get_topic_names_and_types())
    runtime.close()
    assert topics["/camera_front/image/compressed"] == ["sensor_msgs/msg/CompressedImage"]
    assert "/camera_front/image" not in topics


def test_sweeps_that_come_before_activation_are_counted_apart(node, settings, ros):
    statistics = Statistics()
    runtime = Runtime(node, replace(settings, teacher=""), TTTConfig(), statistics)
    talker = ros.Talker()
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    publisher = talker.node.create_publisher(PointCloud2, "/points", 10)
    talker.until(publisher.get_subscription_count)
    publisher.publish(ros.cloud(0))
    while not statistics.counts():
        executor.spin_once(timeout_sec=0.02)
    executor.shutdown()
    talker.close()
    runtime.close()
    assert statistics.counts() == {"sweeps let pass": 1}


def test_closing_ends_every_thread_and_topic(node, settings):
    topics, threads = topics_of(node), threading.active_count()
    Runtime(node, settings, TTTConfig(), Statistics()).close()
    assert topics_of(node) == topics
    assert threading.active_count() == threads
