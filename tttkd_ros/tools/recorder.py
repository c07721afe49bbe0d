"""Record topics into a bag: `python -m tttkd_ros.tools.recorder OUT /segmenter/points_labeled --count 300`.

The bag holds the CDR bytes as they arrived, with the wall-clock time. SIGINT and SIGTERM end the recording, too.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from tttkd_ros import fastdds
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.messages.definitions import message_class

QUEUE = 100  # messages kept while the disk is slow


def record(bag: tyro.conf.Positional[Path], topics: tyro.conf.Positional[tuple[str, ...]], /, *,
           count: int | None = None, linger: float = 0.0, idle: float | None = None,
           follow: str | None = None, overwrite: bool = False) -> None:
    """Record topics into an MCAP bag, with arrival times.

    Args:
        bag: the folder to write.
        topics: the topics; each is awaited until it is published.
        count: end after this many messages of the first topic.
        linger: seconds of silence to wait for before that end, so that the other topics' last messages arrive.
        idle: end after this many seconds of silence, once a message has arrived.
        follow: end when this topic has no publisher any more, after `linger` seconds of silence.
        overwrite: replace an existing bag once the new one is complete and has a message.
    """
    if not topics:
        raise ValueError("no topic given to record")
    if bag.exists() and not overwrite:
        raise ValueError(f"{bag} exists: choose another name, or --overwrite")
    writer = BagWriter(bag, overwrite=overwrite)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with writer, ExitStack() as stack:
        fastdds.use_profile()
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        recorder = _Recorder(writer, topics)
        stack.callback(recorder.node.destroy_node)
        executor = SingleThreadedExecutor()
        executor.add_node(recorder.node)
        while not stop.is_set():
            recorder.subscribe()
            over = follow is not None and recorder.is_over(follow)
            executor.spin_once(timeout_sec=0.1)
            silent = 0.0 if recorder.last is None else time.monotonic() - recorder.last
            over |= count is not None and recorder.counts[topics[0]] >= count
            if (over and silent >= linger) or (idle is not None and silent > idle):
                break
        if bag.exists() and not any(recorder.counts.values()):
            raise ValueError(f"nothing was recorded: {bag} stays as it was")
    print(", ".join(f"{number} x {topic}" for topic, number in recorder.counts.items()), flush=True)


class _Recorder:
    def __init__(self, writer: BagWriter, topics: tuple[str, ...]):
        self.node = rclpy.create_node("bag_recorder", use_global_arguments=False)
        self.counts = dict.fromkeys(topics, 0)
        self.last: float | None = None  # monotonic seconds of the newest arrival
        self._writer = writer
        self._awaited = set(topics)
        self._published = self._was_published = False

    def subscribe(self) -> None:
        """Subscribe to the awaited topics that are published by now, with the offered quality of service."""
        for topic in sorted(self._awaited):
            publishers = self.node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            type_name = publishers[0].topic_type
            kind = message_class(type_name)
            if kind is None:
                raise ValueError(f"{topic} is a {type_name}, which this ROS lacks")
            reliable = all(one.qos_profile.reliability == ReliabilityPolicy.RELIABLE for one in publishers)
            latched = all(one.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for one in publishers)
            profile = QoSProfile(
                depth=QUEUE,
                reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            write = partial(self._write, topic, type_name)
            self.node.create_subscription(kind, topic, write, profile, raw=True)
            self._awaited.remove(topic)
            print(f"recording {topic}", flush=True)

    def is_over(self, topic: str) -> bool:
        """Whether the topic had a publisher and has none any more. Silence counts from when that is noticed."""
        published = self.node.count_publishers(topic) > 0
        if self._published and not published:
            self.last = time.monotonic()
        self._published = published
        self._was_published |= published
        return self._was_published and not published

    def _write(self, topic: str, type_name: str, data: bytes) -> None:
        self._writer.write(topic, type_name, data, time.time_ns())
        self.counts[topic] += 1
        self.last = time.monotonic()


if __name__ == "__main__":
    try:
        tyro.cli(record, prog="recorder")
    except (ValueError, OSError) as error:
        sys.exit(f"recorder: {error}")
