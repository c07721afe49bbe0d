"""A topic with reliable and best-effort publishers, which come and go, over DDS."""

from __future__ import annotations

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from tttkd_ros.ros.sensor_topic import SensorTopic

BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)


@pytest.fixture
def subscribe(nodes):
    def subscribe(**options) -> SensorTopic:
        options = {"reliability": "auto", "depth": 50} | options
        return SensorTopic(nodes.node, String, "talk", nodes.received.append, warn=nodes.warn, **options)

    return subscribe


def publisher(nodes, qos, subscriptions):
    """A publisher that so many subscriptions have matched."""
    publisher = nodes.other.create_publisher(String, "talk", qos)
    nodes.until(lambda: publisher.get_subscription_count() >= subscriptions)
    nodes.spin(0.2)  # the other side may match later
    return publisher


def send(nodes, publisher, *texts):
    """Send, and wait for as many messages and for a duplicate that may follow."""
    before = len(nodes.received)
    for text in texts:
        publisher.publish(String(data=text))
    nodes.until(lambda: len(nodes.received) >= before + len(texts))
    nodes.spin(0.1)


def texts(nodes):
    return [message.data for message in nodes.received]


@pytest.mark.parametrize("qos", [RELIABLE, BEST_EFFORT], ids=["reliable", "best effort"])
def test_either_publisher_is_received_once_and_without_a_warning(nodes, subscribe, qos):
    topic = subscribe()
    send(nodes, publisher(nodes, qos, 1), "a", "b", "c")
    assert (texts(nodes), nodes.warnings) == (["a", "b", "c"], [])
    health = topic.health
    assert (health.topic, health.received, health.lost, health.problem) == ("/talk", 3, 0, "")


@pytest.mark.parametrize("first", [RELIABLE, BEST_EFFORT], ids=["reliable first", "best effort first"])
def test_of_both_kinds_at_once_each_message_comes_once(nodes, subscribe, first):
    subscribe()
    second = BEST_EFFORT if first is RELIABLE else RELIABLE
    one = publisher(nodes, first, 1)
    other = publisher(nodes, second, 2 if second is RELIABLE else 1)
    for number in range(3):
        send(nodes, one, f"one {number}")
        send(nodes, other, f"other {number}", "same", "same")
    assert texts(nodes) == [
        text for number in range(3) for text in (f"one {number}", f"other {number}", "same", "same")
    ]


def test_the_best_effort_subscription_ends_after_its_publishers(nodes, subscribe):
    topic = subscribe()
    best_effort = publisher(nodes, BEST_EFFORT, 1)
    reliable = publisher(nodes, RELIABLE, 2)
    send(nodes, best_effort, "last")
    nodes.other.destroy_publisher(best_effort)

    def one_is_left() -> bool:
        topic.check()
        nodes.spin(0.1)
        return reliable.get_subscription_count() == 1

    nodes.until(one_is_left)
    send(nodes, reliable, "next")
    assert texts(nodes) == ["last", "next"]


@pytest.mark.parametrize("reliability", ["reliable", "best_effort"])
def test_a_fixed_reliability_is_one_subscription(nodes, subscribe, reliability):
    topic = subscribe(reliability=reliability)
    reliable = publisher(nodes, RELIABLE, 1)
    topic.check()
    send(nodes, reliable, "a")
    assert (texts(nodes), reliable.get_subscription_count()) == (["a"], 1)


def test_raw_messages_are_passed_on_serialised(nodes, subscribe):
    subscribe(raw=True)
    send(nodes, publisher(nodes, RELIABLE, 1), "a")
    (data,) = nodes.received
    assert isinstance(data, bytes) and b"a\0" in data


def test_silence_is_warned_of_once_with_other_topics_of_the_type(nodes, subscribe, monkeypatch):
    monkeypatch.setattr("tttkd_ros.monitoring.topic_health.MAX_SILENCE_S", 0.2)
    topic = subscribe()
    nodes.other.create_publisher(String, "/elsewhere", RELIABLE)
    nodes.until(lambda: nodes.node.count_publishers("/elsewhere"))
    for _ in range(3):
        topic.check()
        nodes.spin(0.3)
    ((name, problem),) = nodes.warnings
    assert name == "/talk"
    assert "remap it to one that is published (/elsewhere)" in problem
    assert topic.health.problem


def test_closing_ends_all_subscriptions(nodes, subscribe):
    topic = subscribe()
    best_effort = publisher(nodes, BEST_EFFORT, 1)
    topic.close()
    nodes.until(lambda: not best_effort.get_subscription_count())
