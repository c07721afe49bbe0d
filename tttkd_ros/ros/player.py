"""Play a bag into ROS in real time: `python -m tttkd_ros.ros.player BAG --rate 1.0 --wait-for-subscribers`.

Messages go out as the CDR bytes that the bag holds, with their own stamps, in the bag's order and at the bag's pace.
Publishers are reliable, so that a reliable subscription loses nothing and a best-effort one still matches. Message
types that this ROS lacks (tf2_msgs, where rclpy comes from PyPI) are left out, and named.
"""

from __future__ import annotations

import csv
import importlib
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import rclpy
import tyro
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosbags.highlevel import AnyReader

QUEUE = 50  # messages of one topic kept for a reliable subscription that lags: 5 s of sweeps at 10 Hz
SETTLE = 0.5  # seconds between our match with a subscription and the first message: the other side matches later
ACKNOWLEDGE = 10.0  # seconds for the last messages to be acknowledged


def play(
    bag: tyro.conf.Positional[Path],
    /,
    *,
    rate: float = 1.0,
    topics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TOPIC...")] = (),
    wait_for_subscribers: bool = False,
    wait_timeout: float = 60.0,
    sent_file: Path | None = None,
) -> None:
    """Publish a bag's messages in real time, in the bag's order.

    Args:
        bag: the bag to play.
        rate: 2 plays twice as fast as it was recorded.
        topics: only these topics; without any, all but those under /truth.
        wait_for_subscribers: start once every played topic has a subscription.
        wait_timeout: seconds after which waiting for them is an error.
        sent_file: write topic, bag time and the wall-clock time of sending (nanoseconds) of every message here, as CSV.
    """
    if not rate > 0:
        raise ValueError(f"rate is {rate}, expected a positive number")
    if not bag.exists():
        raise ValueError(f"no bag at {bag}")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        reader = stack.enter_context(AnyReader([bag]))
        connections, missing = playable(reader, topics)
        for topic, type_name in missing:
            print(f"left out {topic}: this ROS has no {type_name}", flush=True)
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        node = rclpy.create_node("bag_player", use_global_arguments=False)
        stack.callback(node.destroy_node)
        publishers = {
            entry.topic: node.create_publisher(message_class(entry.msgtype), entry.topic, qos(entry.topic))
            for entry in connections
        }
        if wait_for_subscribers:
            _wait_for_subscribers(publishers, wait_timeout, stop)
        log = None
        if sent_file is not None:
            log = csv.writer(stack.enter_context(sent_file.open("w", newline="")))
            log.writerow(("topic", "bag_time", "sent"))
        played = _play(reader, connections, publishers, rate, stop, log)
        if not stop.is_set():
            for publisher in publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE))
    print(f"{'stopped after' if stop.is_set() else 'played'} {played} messages", flush=True)


def playable(reader: AnyReader, topics: tuple[str, ...]) -> tuple[list, list[tuple[str, str]]]:
    """The bag's connections to play, and (topic, type) of those whose type this ROS lacks."""
    known = sorted({connection.topic for connection in reader.connections})
    unknown = sorted(set(topics) - set(known))
    if unknown:
        raise ValueError(f"the bag has no topic {', '.join(unknown)}; it has {', '.join(known)}")
    wanted = [
        connection
        for connection in reader.connections
        if (connection.topic in topics if topics else not connection.topic.startswith("/truth/"))
    ]
    connections = [connection for connection in wanted if message_class(connection.msgtype) is not None]
    missing = [(connection.topic, connection.msgtype) for connection in wanted if connection not in connections]
    if not connections:
        raise ValueError(f"nothing to play; the bag has {', '.join(known) or 'no topic at all'}")
    return connections, missing


def message_class(type_name: str) -> type | None:
    """The class of "package/msg/Name", or None where this ROS lacks it."""
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name, None)
    except ModuleNotFoundError:
        return None


def qos(topic: str) -> QoSProfile:
    """Reliable; latched where the topic is one that ROS latches."""
    latched = topic.endswith("_static")
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=QUEUE,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _wait_for_subscribers(publishers: dict, timeout: float, stop: threading.Event) -> None:
    deadline = time.monotonic() + timeout
    while not stop.is_set():
        waiting = [topic for topic, publisher in publishers.items() if publisher.get_subscription_count() == 0]
        if not waiting:
            stop.wait(SETTLE)
            return
        if time.monotonic() > deadline:
            raise ValueError(f"nobody subscribed to {', '.join(waiting)} within {timeout:g} s: is the node running, "
                             "with these topics, and with the same ROS_DOMAIN_ID?")
        stop.wait(0.05)


def _play(reader, connections, publishers, rate: float, stop: threading.Event, log) -> int:
    played = 0
    first = start = None
    for connection, bag_time, data in reader.messages(connections):
        if first is None:
            first, start = bag_time, time.monotonic()
        # Due times count from the start, so that one late message does not delay all that follow.
        if stop.wait(max(0.0, start + (bag_time - first) * 1e-9 / rate - time.monotonic())):
            break
        sent = time.time_ns()
        publishers[connection.topic].publish(bytes(data))
        played += 1
        if log is not None:
            log.writerow((connection.topic, bag_time, sent))
    return played


def main() -> int:
    try:
        tyro.cli(play, prog="player")
    except ValueError as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
