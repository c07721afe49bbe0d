"""Topics that are published with another type than the node subscribes to, over DDS."""

from __future__ import annotations

import struct
from functools import partial

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import String, UInt8MultiArray

from tttkd_ros.messages.livox import decode_livox
from tttkd_ros.messages.point_cloud import decode_cloud
from tttkd_ros.messages.point_times import point_times
from tttkd_ros.ros import published_types
from tttkd_ros.ros.published_types import PublishedTypes


def custom_message() -> bytes:
    """Two points of Livox's CustomMsg, serialised."""
    head = struct.pack("<iII6s6xQIB3xI", 5, 7, 6, b"livox\0", 0, 2, 1, 2)
    points = [struct.pack("<Ifff3B", index * 50_000_000, index + 1, 2, 3, 9, 0, index) for index in range(2)]
    return b"\0\1\0\0" + head + b"\0".join(points)


@pytest.fixture
def types(nodes, monkeypatch):
    check_often = nodes.node.create_timer
    monkeypatch.setattr(nodes.node, "create_timer", lambda period, *rest, **more: check_often(0.1, *rest, **more))
    types = PublishedTypes(nodes.node, nodes.warn)
    yield types
    types.close()


@pytest.fixture
def watch_sweeps(nodes, types):
    def subscribe(kind, callback):
        subscription = nodes.node.create_subscription(kind, "points", callback, 10, raw=True)
        return partial(nodes.node.destroy_subscription, subscription)

    types.watch_sweeps("points", subscribe, lambda cdr, read: nodes.received.append(read(cdr)))


def test_a_custom_message_becomes_a_cloud():
    msg = decode_livox(custom_message())
    np.testing.assert_array_equal(decode_cloud(msg).points, [[1, 2, 3], [2, 2, 3]])
    np.testing.assert_allclose(point_times(msg), [0, 0.05])
    assert (msg.header.frame_id, msg.header.stamp.sec, msg.header.stamp.nanosec) == ("livox", 5, 7)


def test_the_subscription_follows_the_published_type(nodes, types, monkeypatch, request):
    """Another type stands in for Livox's, whose package is not here; its bytes are Livox's."""
    monkeypatch.setattr(published_types, "is_livox", lambda kind: kind == "std_msgs/msg/UInt8MultiArray")
    request.getfixturevalue("watch_sweeps")
    publisher = nodes.other.create_publisher(UInt8MultiArray, "points", 10)
    nodes.until(lambda: nodes.received, lambda: publisher.publish(custom_message()))
    assert decode_cloud(nodes.received[0]).points.shape == (2, 3)
    nodes.other.destroy_publisher(publisher)
    publisher = nodes.other.create_publisher(PointCloud2, "points", 10)
    nodes.until(lambda: nodes.received[-1].height == 3, lambda: publisher.publish(PointCloud2(height=3)))
    assert not nodes.warnings


def test_livox_messages_without_their_package_are_reported_with_the_drivers_option(nodes, watch_sweeps, monkeypatch):
    monkeypatch.setattr(published_types, "is_livox", lambda kind: kind == "std_msgs/msg/String")
    monkeypatch.setattr(published_types, "message_class", lambda kind: None)
    nodes.other.create_publisher(String, "points", 10)
    nodes.until(lambda: nodes.warnings)
    topic, problem = nodes.warnings[0]
    assert topic == "points" and problem.startswith("/points is published as std_msgs/msg/String, expected")
    assert "package std_msgs, or let the driver publish PointCloud2 (livox_ros_driver2: xfer_format 0)" in problem


def test_a_topic_without_clouds_is_reported(nodes, watch_sweeps):
    nodes.other.create_publisher(String, "points", 10)
    nodes.until(lambda: nodes.warnings)
    assert nodes.warnings[0][1].endswith("expected sensor_msgs/msg/PointCloud2: remap it to the LiDAR's clouds")


@pytest.mark.parametrize(
    ("published", "kind", "words"),
    [
        (CompressedImage, "sensor_msgs/msg/Image", "set the parameter image_transport to compressed"),
        (Image, "sensor_msgs/msg/CompressedImage", "set the parameter image_transport to raw"),
        (String, "sensor_msgs/msg/Image", "remap it to the camera's images"),
    ],
)
def test_images_of_another_type_are_reported_and_those_of_the_right_type_are_not(nodes, types, published, kind, words):
    types.watch_images("right/image", "sensor_msgs/msg/Image")
    types.watch_images("wrong/image", kind)
    nodes.other.create_publisher(Image, "right/image", 10)
    nodes.until(lambda: nodes.node.count_publishers("right/image"))
    nodes.other.create_publisher(published, "wrong/image", 10)
    nodes.until(lambda: nodes.warnings)
    assert {topic for topic, _ in nodes.warnings} == {"wrong/image"}
    assert words in nodes.warnings[0][1]
