"""Play a bag into ROS in real time: `python -m tttkd_ros.tools.player BAG --rate 1.0 --wait-for-subscribers`.

It publishes the CDR bytes that the bag holds. Publishers are reliable, so a reliable subscription loses nothing and a
best-effort one still matches. The QoS in the bag is not used: it may be edited, or of another distribution.
"""

from __future__ import annotations

import csv
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
from rclpy.exceptions import NameValidationException
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from tttkd_ros import fastdds
from tttkd_ros.bags.storage import Bag, open_bag
from tttkd_ros.messages.definitions import message_class

QUEUE = 50  # messages of one topic kept for a reliable subscription that lags: 5 s of sweeps at 10 Hz
VOLATILE = QoSProfile(depth=QUEUE, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(depth=QUEUE, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SETTLE = 0.5  # seconds between the match with a subscription and the first message: the other side matches later
LONG_GAP = 30.0  # seconds without a message that are reported
ACKNOWLEDGE = 10.0  # seconds for the last messages to be acknowledged


def play(bag: tyro.conf.Positional[Path], /, *, rate: float = 1.0,
         topics: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TOPIC...")] = (), wait_for_subscribers: bool = False,
         wait_timeout: float = 60.0, sent_file: Path | None = None) -> None:
    """Publish a bag's messages in real time, in the bag's order.

    Args:
        bag: the bag to play.
        rate: 2 plays twice as fast as it was recorded.
        topics: only these topics; without any, all but those under /truth.
        wait_for_subscribers: start when every played topic has a subscription.
        wait_timeout: seconds after which a topic without one is an error.
        sent_file: CSV file to write, with each message's topic, bag time and wall-clock time of sending (nanoseconds).
    """
    if not rate > 0:
        raise ValueError(f"rate is {rate}, expected a positive number")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        opened = stack.enter_context(open_bag(bag))
        for note in opened.notes:
            print(note, flush=True)
        classes, left_out = playable(opened, topics)
        for topic, reason in left_out.items():
            print(f"left out {topic}: {reason}", flush=True)
        fastdds.use_profile()
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        node = rclpy.create_node("bag_player", use_global_arguments=False)
        stack.callback(node.destroy_node)
        try:
            publishers = {topic: node.create_publisher(kind, topic, LATCHED if topic.endswith("_static") else VOLATILE)
                          for topic, kind in classes.items()}
        except NameValidationException as error:
            raise ValueError(f"the bag has a topic that ROS does not allow: {error}") from error
        if wait_for_subscribers:
            _wait_for_subscribers(publishers, wait_timeout, stop)
        log = None
        if sent_file is not None:
            log = csv.writer(stack.enter_context(sent_file.open("w", newline="")))
            log.writerow(("topic", "bag_time", "sent"))
        played = _play(opened, publishers, rate, stop, log)
        if not stop.is_set():
            for publisher in publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE))
    if not played and not stop.is_set():
        raise ValueError(f"played nothing: bag {bag} counts messages on {', '.join(classes)}, but has none")
    print(f"{'stopped after' if stop.is_set() else 'played'} {played} messages", flush=True)


def playable(bag: Bag, topics: tuple[str, ...]) -> tuple[dict[str, type], dict[str, str]]:
    """The message classes of the topics to play, and the reasons of those that are left out. topics: see `play`.

    Raises ValueError for a topic that the bag lacks, or if there is nothing to play.
    """
    unknown = sorted(set(topics) - bag.types.keys() - bag.left_out.keys())
    if unknown:
        raise ValueError(f"the bag has no topic {', '.join(unknown)}; it has {', '.join(sorted(bag.types))}")
    classes: dict[str, type] = {}
    left_out = {topic: reason for topic, reason in bag.left_out.items() if topic in topics or not topics}
    for topic, type_name in bag.types.items():
        if topics and topic not in topics:
            continue
        kind = message_class(type_name)
        if not topics and topic.startswith("/truth/"):
            left_out[topic] = f"the truth is played only if it is named (--topics {topic})"
        elif kind is None:
            left_out[topic] = f"this ROS has no {type_name}: install the package {type_name.split('/')[0]}"
        elif not bag.counts[topic]:
            left_out[topic] = "the bag holds no message on it"
        else:
            classes[topic] = kind
    if not classes:
        reasons = "; ".join(f"{topic}: {reason}" for topic, reason in left_out.items())
        raise ValueError(f"nothing to play in bag {bag.path} ({reasons or 'it has no topics'})")
    return classes, left_out


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


def _play(bag: Bag, publishers: dict, rate: float, stop: threading.Event, log) -> int:
    played = 0
    first = start = None
    for record in bag.messages(publishers):
        if first is None:
            first, start = record.time, time.monotonic()
        # Due times count from the start, so that one late message does not delay all that follow.
        due = start + (record.time - first) * 1e-9 / rate
        wait = max(0.0, due - time.monotonic())
        if wait > LONG_GAP:
            print(f"waiting {wait:.0f} s for {record.topic}, as recorded: --rate plays faster", flush=True)
        if stop.wait(min(wait, threading.TIMEOUT_MAX)):
            break
        sent = time.time_ns()
        publishers[record.topic].publish(record.data)
        played += 1
        if log is not None:
            log.writerow((record.topic, record.time, sent))
    return played


if __name__ == "__main__":
    try:
        tyro.cli(play, prog="player")
    except ValueError as error:
        sys.exit(f"player: {error}")
