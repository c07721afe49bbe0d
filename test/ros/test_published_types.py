"""Topics that carry another type than the node asks for, over DDS."""

from __future__ import annotations

import struct
import time
from functools import partial

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image, PointCloud2  # noqa: E402
from std_msgs.msg import String, UInt8MultiArray  # noqa: E402

from tttkd_ros.messages.livox import decode_livox  # noqa: E402
from tttkd_ros.messages.point_cloud import decode_cloud  # noqa: E402
from tttkd_ros.messages.point_times import point_times  # noqa: E402
from tttkd_ros.ros import published_types  # noqa: E402
from tttkd_ros.ros.published_types import PublishedTypes  # noqa: E402

PATIENCE_S = 20


def custom_message() -> bytes:
    """Two points of Livox's, serialised."""
    head = struct.pack("<iII6s6xQIB3xI", 5, 7, 6, b"livox\0", 0, 2, 1, 2)
    points = [struct.pack("<Ifff3B", index * 50_000_000, index + 1, 2, 3, 9, 0, index) for index in range(2)]
    return b"\0\1\0\0" + head + b"\0".join(points)


class Both:
    """The node's side and a sender's, in contexts of their own as two processes have."""

    def __init__(self):
        self.contexts = [rclpy.Context(), rclpy.Context()]
        for context in self.contexts:
            rclpy.init(context=context)
        self.node, self.sender = (
            rclpy.create_node(name, context=context)
            for name, context in zip(("listener", "sender"), self.contexts, strict=True)
        )
        self.executor = SingleThreadedExecutor(context=self.contexts[0])
        self.executor.add_node(self.node)
        self.said, self.received = [], []
        self.types = PublishedTypes(self.node, lambda topic, problem: self.said.append((topic, problem)))

    def subscribe(self, kind, callback):
        subscription = self.node.create_subscription(kind, "points", callback, 10, raw=True)
        return partial(self.node.destroy_subscription, subscription)

    def watch_sweeps(self):
        self.types.watch_sweeps("points", self.subscribe, lambda cdr, read: self.received.append(read(cdr)))

    def until(self, condition, each=lambda: None):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            each()
            self.executor.spin_once(timeout_sec=0.05)

    def close(self):
        self.types.close()
        self.executor.shutdown()
        for node, context in zip((self.node, self.sender), self.contexts, strict=True):
            node.destroy_node()
            rclpy.try_shutdown(context=context)


@pytest.fixture
def both():
    both = Both()
    yield both
    both.close()


def test_a_custom_message_becomes_a_cloud():
    msg = decode_livox(custom_message())
    np.testing.assert_array_equal(decode_cloud(msg).points, [[1, 2, 3], [2, 2, 3]])
    np.testing.assert_allclose(point_times(msg), [0, 0.05])
    assert (msg.header.frame_id, msg.header.stamp.sec, msg.header.stamp.nanosec) == ("livox", 5, 7)


def test_sweeps_are_taken_from_livox_messages_when_these_are_published(both, monkeypatch):
    """Another type stands for Livox's, whose package is not here; its bytes are Livox's."""
    monkeypatch.setattr(published_types, "is_livox", lambda kind: kind == "std_msgs/msg/UInt8MultiArray")
    both.watch_sweeps()
    publisher = both.sender.create_publisher(UInt8MultiArray, "points", 10)
    both.until(lambda: both.received, lambda: publisher.publish(custom_message()))
    assert decode_cloud(both.received[0]).points.shape == (2, 3)
    both.sender.destroy_publisher(publisher)
    del both.received[:]
    publisher = both.sender.create_publisher(PointCloud2, "points", 10)
    both.until(lambda: both.received, lambda: publisher.publish(PointCloud2(height=3)))
    assert both.received[0].height == 3 and not both.said


def test_livox_messages_without_their_package_are_told_with_the_drivers_option(both, monkeypatch):
    monkeypatch.setattr(published_types, "is_livox", lambda kind: kind == "std_msgs/msg/String")
    monkeypatch.setattr(published_types, "message_class", lambda kind: None)
    both.watch_sweeps()
    both.sender.create_publisher(String, "points", 10)
    both.until(lambda: both.said)
    topic, problem = both.said[0]
    assert topic == "points" and problem.startswith("/points is published as std_msgs/msg/String, expected")
    assert "package std_msgs, or let the driver publish PointCloud2 (livox_ros_driver2: xfer_format 0)" in problem


def test_a_topic_without_clouds_is_told(both):
    both.watch_sweeps()
    both.sender.create_publisher(String, "points", 10)
    both.until(lambda: both.said)
    assert both.said[0][1].endswith("expected sensor_msgs/msg/PointCloud2: remap it to the LiDAR's clouds")


@pytest.mark.parametrize(
    ("published", "kind", "words"),
    [
        (CompressedImage, "sensor_msgs/msg/Image", "set the parameter image_transport to compressed"),
        (Image, "sensor_msgs/msg/CompressedImage", "set the parameter image_transport to raw"),
        (String, "sensor_msgs/msg/Image", "remap it to the camera's images"),
    ],
)
def test_images_of_another_type_are_told(both, published, kind, words):
    both.types.watch_images("front/image", kind)
    both.sender.create_publisher(published, "front/image", 10)
    both.until(lambda: both.said)
    assert words in both.said[0][1]


def test_a_topic_of_the_right_type_is_not_told(both):
    both.types.watch_images("front/image", "sensor_msgs/msg/Image")
    both.sender.create_publisher(Image, "front/image", 10)
    both.sender.create_publisher(String, "other", 10)
    both.types.watch_images("other", "sensor_msgs/msg/Image")
    both.until(lambda: both.said)
    assert {topic for topic, _ in both.said} == {"other"}
