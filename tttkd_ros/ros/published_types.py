"""What is published on the node's topics under another type than it subscribes to, which would go unheard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from tttkd_ros.messages.livox import decode_livox, is_livox
from tttkd_ros.messages.point_cloud import read_cloud
from tttkd_ros.messages.transports import undecoded_cloud, undecoded_image
from tttkd_ros.tools.player import message_class

CLOUD = "sensor_msgs/msg/PointCloud2"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


@dataclass
class _Watched:
    topic: str
    kind: str
    unfit: Callable[[str], str | None]  # given another type, says what to do, or None if it has been seen to


class PublishedTypes:
    """Looks once a second at the types of the publishers on watched topics. complain: of a topic, with the remedy."""

    def __init__(self, node: Node, complain: Callable[[str, str], object]):
        self._node = node
        self._complain = complain
        self._watched: list[_Watched] = []
        self._timer = node.create_timer(1.0, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def watch_images(self, topic: str, kind: str) -> None:
        """kind: as "sensor_msgs/msg/Image"."""

        def unfit(other: str) -> str:
            if COMPRESSED in (kind, other) and not undecoded_image(other, topic):
                transport = "compressed" if other == COMPRESSED else "raw"
                return f"set the parameter image_transport to {transport} and remap the topic that this takes"
            return undecoded_image(other, topic) or "remap it to the camera's images"

        self._watched.append(_Watched(topic, kind, unfit))

    def watch_sweeps(
        self, topic: str, subscribe: Callable[[type, Callable[[bytes], object]], Callable[[], object]],
        on_points: Callable[[bytes, Callable[[bytes], object]], object],
    ) -> None:
        """Subscribe to sweeps: to PointCloud2, or to Livox's CustomMsg as soon as that is what is published.

        subscribe: is given a message class and a callback for its serialised messages; what it returns ends the
        subscription. on_points: is given each of them, and what makes of it an object with the attributes of a
        PointCloud2 or raises ValueError.
        """
        end = subscribe(PointCloud2, partial(on_points, read=read_cloud))

        def unfit(other: str) -> str | None:
            nonlocal end
            if other != CLOUD and not is_livox(other):
                return undecoded_cloud(other, topic) or "remap it to the LiDAR's clouds"
            kind = message_class(other)
            if kind is None:
                return (
                    f"source the workspace that has the package {other.partition('/')[0]}, or let the driver publish "
                    "PointCloud2 (livox_ros_driver2: xfer_format 0)"
                )
            end()  # first: one process has one type for a topic
            read = decode_livox if is_livox(other) else read_cloud
            end = subscribe(kind, partial(on_points, read=read))
            watched.kind = other
            self._node.get_logger().info(f"{topic}: sweeps are taken from {other}")
            return None

        watched = _Watched(topic, CLOUD, unfit)
        self._watched.append(watched)

    def close(self) -> None:
        self._node.destroy_timer(self._timer)

    def _look(self) -> None:
        for watched in self._watched:
            kinds = {info.topic_type for info in self._node.get_publishers_info_by_topic(watched.topic)}
            if not kinds or watched.kind in kinds:
                continue
            # CLOUD and CustomMsg first: the others are of use to nobody here.
            other = min(kinds, key=lambda kind: (kind != CLOUD and not is_livox(kind), kind))
            remedy = watched.unfit(other)
            if remedy:
                name = self._node.resolve_topic_name(watched.topic)
                self._complain(watched.topic, f"{name} is published as {other}, expected {watched.kind}: {remedy}")
