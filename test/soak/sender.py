"""The sensors, in a process that can be stopped and continued:

    python -m soak.sender SEED HZ JOURNAL POINTS

Sends until it is terminated. The journal has a line for each sweep: its number, the time (monotonic seconds) and the
number of subscribers. The output is the number of messages by kind, as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from threading import Event

import rclpy
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from tttkd_ros.fastdds import use_profile

from .clouds import sweeps
from .common import CAMERAS, SECOND
from .images import Cameras

QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)


class Sensors:
    """Publishers of all topics."""

    def __init__(self, node):
        self._points = node.create_publisher(PointCloud2, "/lidar/points", QOS)
        self._images = {name: node.create_publisher(Image, f"/{name}/image", QOS) for name in CAMERAS}
        self._infos = {name: node.create_publisher(CameraInfo, f"/{name}/camera_info", QOS) for name in CAMERAS}

    @property
    def heard(self) -> int:
        """Return the number of subscribers to the sweeps."""
        return self._points.get_subscription_count()

    def send(self, sweep, camera_messages) -> int:
        """Publish a sweep and its camera messages. Return the number of subscribers."""
        for name, message in camera_messages.infos.items():
            self._infos[name].publish(message)
        for name, messages in camera_messages.before.items():
            for message in messages:
                self._images[name].publish(message)
        heard = self.heard
        self._points.publish(sweep.message)
        for name, messages in camera_messages.after.items():
            for message in messages:
                self._images[name].publish(message)
        return heard

    def flush(self) -> None:
        for publisher in (self._points, *self._images.values()):
            publisher.wait_for_all_acked(Duration(seconds=10))


def main(seed: int, rate: float, journal: str, mean_points: int) -> None:
    ended = Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal interrupts all processes; the parent ends this one
    use_profile()
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    sensors, cameras = Sensors(rclpy.create_node("sensors")), Cameras(seed)
    while not sensors.heard and not ended.wait(0.05):
        pass
    due, kinds = time.monotonic(), Counter()
    with open(journal, "w") as lines:
        for sweep in sweeps(seed, round(SECOND / rate), mean_points):
            if not sweep.at_once:
                due = max(due + 1 / rate, time.monotonic())  # sweeps missed while stopped are not sent later
                ended.wait(due - time.monotonic())
            if ended.is_set():
                break
            now = time.monotonic()
            camera_messages = cameras.messages(sweep)
            heard = sensors.send(sweep, camera_messages)
            print(sweep.number, now, heard, file=lines)
            kinds.update((*sweep.kinds, *camera_messages.kinds, *(["unanswerable"] if sweep.expected is None else [])))
    sensors.flush()
    print(json.dumps(kinds))
    rclpy.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
