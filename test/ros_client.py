"""A client of the node over DDS, makers of the messages that it sends, and two nodes for tests. Needs rclpy."""

from __future__ import annotations

import array
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import String

from tttkd_ros.messages.stamps import nanoseconds

WIDTH, HEIGHT, FOCAL = 112, 56, 60.0
RELIABLE = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TwoNodes:
    """A node under test, which spins, and another one, in contexts of their own as two processes have."""

    def __init__(self):
        self._contexts = [rclpy.Context(), rclpy.Context()]
        for context in self._contexts:
            rclpy.init(context=context)
        self.node, self.other = (
            rclpy.create_node(name, context=context)
            for name, context in zip(("tested", "other"), self._contexts, strict=True)
        )
        self.executor = SingleThreadedExecutor(context=self._contexts[0])
        self.executor.add_node(self.node)
        self.received: list = []
        self.warnings: list[tuple[str, str]] = []

    def warn(self, topic: str, problem: str) -> None:
        self.warnings.append((topic, problem))

    def until(self, condition: Callable[[], object], each: Callable[[], object] = lambda: None) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            each()
            self.executor.spin_once(timeout_sec=0.02)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def close(self) -> None:
        self.executor.shutdown()
        for node, context in zip((self.node, self.other), self._contexts, strict=True):
            node.destroy_node()
            rclpy.try_shutdown(context=context)


class Talker:
    """Publishes sweeps and images, receives what comes back, calls services; it spins within `until` only."""

    def __init__(self, name: str = "segmenter"):
        self.context = rclpy.Context()
        rclpy.init(context=self.context, signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        self.node = rclpy.create_node("talker", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.name = name
        self.heard: dict[str, list] = defaultdict(list)  # messages by topic, in the order of arrival
        self.points = self.node.create_publisher(PointCloud2, "/lidar/points", RELIABLE)
        self.images = self.node.create_publisher(Image, "/camera_front/image", RELIABLE)
        self.infos = self.node.create_publisher(CameraInfo, "/camera_front/camera_info", RELIABLE)
        self.listen(PointCloud2, f"/{name}/points_labeled")
        self.listen(DiagnosticArray, f"/{name}/adaptation")
        self.listen(String, f"/{name}/label_info", LATCHED)
        self.listen(DiagnosticArray, "/diagnostics")

    def listen(self, kind: type, topic: str, qos: QoSProfile = RELIABLE):
        return self.node.create_subscription(kind, topic, self.heard[topic].append, qos)

    def until(self, condition: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.executor.spin_once(timeout_sec=0.02)

    def connected(self) -> bool:
        outgoing = (self.points, self.images, self.infos)
        topics = (f"/{self.name}/points_labeled", f"/{self.name}/adaptation")
        return all(p.get_subscription_count() for p in outgoing) and all(map(self.node.count_publishers, topics))

    def call(self, kind: type, service: str, request=None):
        client = self.node.create_client(kind, service)
        self.until(client.service_is_ready)
        future = client.call_async(request or kind.Request())
        self.until(future.done)
        self.node.destroy_client(client)
        return future.result()

    def labelled(self) -> list[PointCloud2]:
        return self.heard[f"/{self.name}/points_labeled"]

    def reports(self) -> dict[int, dict[str, str]]:
        """What ~/adaptation said, by the sweep's stamp."""
        messages = self.heard[f"/{self.name}/adaptation"]
        return {nanoseconds(message.header.stamp): values(message.status[0]) for message in messages}

    def answer(self, *clouds: PointCloud2) -> list[PointCloud2]:
        """Send the clouds and wait for as many answers."""
        before = len(self.labelled())
        for message in clouds:
            self.points.publish(message)
        self.until(lambda: len(self.labelled()) >= before + len(clouds))
        return self.labelled()[before:]

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@contextmanager
def connected_talker(name: str = "segmenter") -> Iterator[Talker]:
    """A client that the node of this name hears, and that is closed at the end."""
    talker = Talker(name)
    try:
        talker.until(talker.connected)
        yield talker
    finally:
        talker.close()


def values(status) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def set_header(message, stamp: int, frame: str):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
    message.header.frame_id = frame
    return message


def points(count: int = 500, seed: int = 0) -> np.ndarray:
    """(count, 4) float32 x, y, z, intensity before the camera."""
    generator = np.random.default_rng(seed)
    return generator.uniform((3, -4, -1.5, 0), (20, 4, 1.5, 1), (count, 4)).astype(np.float32)


def cloud(stamp: int, data: np.ndarray | None = None, names=("x", "y", "z", "intensity"), frame="lidar") -> PointCloud2:
    """data (N, len(names)) float32."""
    data = points() if data is None else data
    message = PointCloud2(height=1, width=len(data), point_step=4 * len(names), row_step=data.nbytes, is_dense=True)
    message.fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate(names)]
    message.data = array.array("B", data.tobytes())
    return set_header(message, stamp, frame)


def image(stamp: int, width: int = WIDTH, height: int = HEIGHT, encoding: str = "rgb8") -> Image:
    pixels = np.random.default_rng(stamp % 2**32).integers(0, 255, (height, width, 3), np.uint8)
    message = Image(width=width, height=height, step=3 * width, encoding=encoding)
    message.data = array.array("B", pixels.tobytes())
    return set_header(message, stamp, "camera_front_optical")


def info(focal: float = FOCAL, coefficients: int = 5) -> CameraInfo:
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * coefficients)
    message.k = [focal, 0.0, WIDTH / 2, 0.0, focal, HEIGHT / 2, 0.0, 0.0, 1.0]
    return set_header(message, 0, "camera_front_optical")
