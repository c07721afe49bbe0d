"""Record topics into a bag: `python -m tttkd_ros.tools.recorder OUT /segmenter/points_labeled --count 300`.

The bag holds the CDR bytes as they arrived, each at the wall-clock time of its arrival. Recording ends at SIGINT or
SIGTERM, after `count` messages of the first topic or with the last publisher of the topic `follow` and `linger` seconds
of silence, or after `idle` seconds of silence.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import rclpy
import tyro
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from tttkd_ros import fastdds
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.messages.definitions import message_class

QUEUE = 100  # messages kept while the disk is slow


def record(
    bag: tyro.conf.Positional[Path],
    topics: tyro.conf.Positional[tuple[str, ...]],
    /,
    *,
    count: int | None = None,
    linger: float = 0.0,
    idle: float | None = None,
    follow: str | None = None,
    overwrite: bool = False,
) -> None:
    """Record topics into an MCAP bag, with arrival times.

    Args:
        bag: the folder to write.
        topics: the topics; each is awaited until somebody publishes it.
        count: end after this many messages of the first topic.
        linger: seconds without any message to wait for afterwards, for what the other topics still bring.
        follow: end when nobody publishes this topic any more, and nothing has arrived for `linger` seconds since.
        idle: end when nothing has arrived for this many seconds, once something has.
        overwrite: replace a bag that is there, once the new one is whole and holds a message.
    """
    if not topics:
        raise ValueError("no topic given to record")
    if bag.exists() and not overwrite:
        raise ValueError(f"{bag} exists: choose another name, or --overwrite")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        writer = stack.enter_context(BagWriter(bag, overwrite=overwrite))
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
            if over and silent >= linger:
                break
            if idle is not None and silent > idle:
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
        self._published = self._once = False

    def subscribe(self) -> None:
        """Subscribe to those awaited topics that somebody publishes by now, with the quality that is offered."""
        for topic in sorted(self._awaited):
            offers = self.node.get_publishers_info_by_topic(topic)
            if not offers:
                continue
            type_name = offers[0].topic_type
            kind = message_class(type_name)
            if kind is None:
                raise ValueError(f"{topic} is a {type_name}, which this ROS lacks")
            reliable = all(offer.qos_profile.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
            latched = all(offer.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
            profile = QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=QUEUE,
                reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            self.node.create_subscription(kind, topic, self._writing(topic, type_name), profile, raw=True)
            self._awaited.remove(topic)
            print(f"recording {topic}", flush=True)

    def is_over(self, topic: str) -> bool:
        """Whether the topic was published, and is no longer; silence counts from when that is found."""
        published = self.node.count_publishers(topic) > 0
        if self._published and not published:
            self.last = time.monotonic()
        self._published = published
        self._once |= published
        return self._once and not published

    def _writing(self, topic: str, type_name: str):
        def write(data: bytes) -> None:
            self._writer.write(topic, type_name, data, time.time_ns())
            self.counts[topic] += 1
            self.last = time.monotonic()

        return write


def main() -> int:
    try:
        tyro.cli(record, prog="recorder")
    except (ValueError, OSError) as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
