"""A topic with reliable and best-effort publishers, which come and go, over DDS."""

from __future__ import annotations

import time

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from tttkd_ros.ros.sensor_topic import SensorTopic  # noqa: E402

BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
PATIENCE = 20


class Both:
    """The node's side and the publishers'."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node, self.other = (rclpy.create_node(name, context=self.context) for name in ("ours", "theirs"))
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.other)
        self.received, self.said = [], []

    def listen(self, **options) -> SensorTopic:
        options = {"reliability": "auto", "depth": 50} | options
        return SensorTopic(
            self.node, String, "talk", self.received.append, warn=lambda *said: self.said.append(said), **options
        )

    def publisher(self, qos, heard: int):
        """One that is heard by so many subscriptions."""
        publisher = self.other.create_publisher(String, "talk", qos)
        self.until(lambda: publisher.get_subscription_count() >= heard)
        self.spin(0.3)  # the other side may match later
        return publisher

    def until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.executor.spin_once(timeout_sec=0.02)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.other.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def both():
    both = Both()
    yield both
    both.close()


def send(both, publisher, *texts):
    for text in texts:
        publisher.publish(String(data=text))
    both.spin(0.5)


def texts(both):
    return [message.data for message in both.received]


@pytest.mark.parametrize("qos", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_either_publisher_is_heard_once_and_not_complained_about(both, qos):
    both.listen()
    send(both, both.publisher(qos, 1), "a", "b", "c")
    assert (texts(both), both.said) == (["a", "b", "c"], [])


@pytest.mark.parametrize("first", [RELIABLE, BEST_EFFORT], ids=["reliable first", "best effort first"])
def test_of_both_kinds_at_once_each_message_comes_once(both, first):
    both.listen()
    second = BEST_EFFORT if first is RELIABLE else RELIABLE
    one = both.publisher(first, 1)
    other = both.publisher(second, 2 if second is RELIABLE else 1)
    for number in range(10):
        send(both, one, f"one {number}") if number % 2 else send(both, other, f"other {number}")
    expected = [f"{'one' if number % 2 else 'other'} {number}" for number in range(10)]
    assert texts(both) == expected


def test_what_one_publisher_repeats_comes_as_often(both):
    both.listen()
    both.publisher(BEST_EFFORT, 1)
    reliable = both.publisher(RELIABLE, 2)
    send(both, reliable, "same", "same", "same")
    assert texts(both) == ["same"] * 3


def test_the_best_effort_subscription_ends_after_its_publishers(both):
    topic = both.listen()
    best_effort = both.publisher(BEST_EFFORT, 1)
    reliable = both.publisher(RELIABLE, 2)
    send(both, best_effort, "last")
    both.other.destroy_publisher(best_effort)

    def one_is_left() -> bool:
        topic.check()
        both.spin(0.2)
        return reliable.get_subscription_count() == 1

    both.until(one_is_left)
    send(both, reliable, "on it goes")
    assert texts(both) == ["last", "on it goes"]


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_what_the_parameter_asks_for_is_one_subscription(both, reliability):
    topic = both.listen(reliability=reliability)
    publisher = both.publisher(RELIABLE, 1)
    topic.check()
    send(both, publisher, "a")
    assert (texts(both), publisher.get_subscription_count()) == (["a"], 1)


def test_serialised_messages_are_handed_on_as_they_are(both):
    both.listen(raw=True)
    send(both, both.publisher(RELIABLE, 1), "a")
    (data,) = both.received
    assert isinstance(data, bytes)
    assert b"a\0" in data


def test_its_state_tells_what_came(both):
    topic = both.listen()
    send(both, both.publisher(BEST_EFFORT, 1), "a", "b")
    state = topic.status()
    assert (state.topic, state.received, state.lost, state.problem) == ("/talk", 2, 0, "")


def test_silence_is_complained_about_once_with_the_topic_and_its_type_elsewhere(both, monkeypatch):
    monkeypatch.setattr("tttkd_ros.monitoring.topic_health.MAX_SILENCE_S", 0.2)
    topic = both.listen()
    both.other.create_publisher(String, "/elsewhere", RELIABLE)
    both.until(lambda: both.node.count_publishers("/elsewhere"))
    for _ in range(3):
        topic.check()
        both.spin(0.3)
    ((name, problem),) = both.said
    assert name == "/talk"
    assert "remap it to one that is published (/elsewhere)" in problem
    assert topic.status().problem


def test_after_its_end_nobody_is_heard(both):
    topic = both.listen()
    publisher = both.publisher(BEST_EFFORT, 1)
    topic.close()
    both.until(lambda: not publisher.get_subscription_count())
