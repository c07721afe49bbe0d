"""Notices a topic that is published with another message type than the node subscribes to: it receives nothing then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from tttkd_ros.messages.definitions import message_class
from tttkd_ros.messages.livox import decode_livox, is_livox
from tttkd_ros.messages.point_cloud import read_cloud
from tttkd_ros.messages.transports import cloud_remedy, image_remedy

CLOUD = "sensor_msgs/msg/PointCloud2"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


@dataclass
class _WatchedTopic:
    topic: str
    kind: str
    on_other_type: Callable[[str], str | None]  # returns the remedy, or None if it has changed the subscription


class PublishedTypes:
    """Checks the publishers' types on watched topics once a second. warn: logs a problem of a topic."""

    def __init__(self, node: Node, warn: Callable[[str, str], object]):
        self._node = node
        self._warn = warn
        self._watched: list[_WatchedTopic] = []
        self._timer = node.create_timer(1.0, self._check, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def watch_images(self, topic: str, kind: str) -> None:
        """kind: the type that the node subscribes to, as "sensor_msgs/msg/Image"."""

        def remedy(other: str) -> str:
            republish = image_remedy(other, topic)
            if COMPRESSED in (kind, other) and not republish:
                transport = "compressed" if other == COMPRESSED else "raw"
                return f"set the parameter image_transport to {transport} and remap the topic that it subscribes to"
            return republish or "remap it to the camera's images"

        self._watched.append(_WatchedTopic(topic, kind, remedy))

    def watch_sweeps(
        self, topic: str, subscribe: Callable[[type, Callable[[bytes], object]], Callable[[], object]],
        on_points: Callable[[bytes, Callable[[bytes], object]], object],
    ) -> None:
        """Subscribe to sweeps: to PointCloud2, or to Livox's CustomMsg as soon as that is published.

        Args:
            subscribe: takes a message class and a callback for serialised messages; returns what ends the subscription.
            on_points: takes a serialised message, and the function that turns it into an object with the attributes of
                a PointCloud2 or raises ValueError.
        """
        end = subscribe(PointCloud2, partial(on_points, read=read_cloud))

        def switch(other: str) -> str | None:
            nonlocal end
            if other != CLOUD and not is_livox(other):
                return cloud_remedy(other, topic) or "remap it to the LiDAR's clouds"
            kind = message_class(other)
            if kind is None:
                return (f"source the workspace that has the package {other.partition('/')[0]}, or let the driver "
                        "publish PointCloud2 (livox_ros_driver2: xfer_format 0)")
            end()  # before the next one: a process has one type for a topic
            end = subscribe(kind, partial(on_points, read=decode_livox if is_livox(other) else read_cloud))
            watched.kind = other
            self._node.get_logger().info(f"{topic}: sweeps are received as {other}")
            return None

        watched = _WatchedTopic(topic, CLOUD, switch)
        self._watched.append(watched)

    def close(self) -> None:
        self._node.destroy_timer(self._timer)

    def _check(self) -> None:
        for watched in self._watched:
            kinds = {info.topic_type for info in self._node.get_publishers_info_by_topic(watched.topic)}
            if not kinds or watched.kind in kinds:
                continue
            # Of several types those that can be used come first.
            other = min(kinds, key=lambda kind: (kind != CLOUD and not is_livox(kind), kind))
            if remedy := watched.on_other_type(other):
                name = self._node.resolve_topic_name(watched.topic)
                self._warn(watched.topic, f"{name} is published as {other}, expected {watched.kind}: {remedy}")
