"""Publishers and subscribers that do not match, over DDS: what the node warns of."""

from __future__ import annotations

import time

import pytest
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from tttkd_ros.ros.qos import LATCHED, RELIABILITY, output_qos, publisher_events, sensor_qos, subscription_events

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)


def subscribe(nodes, reliability):
    return nodes.node.create_subscription(
        String, "points", lambda message: nodes.received.append(message.data), sensor_qos(reliability, 5),
        event_callbacks=subscription_events("/lidar/points", nodes.warn, on_loss=lambda count: None),
    )


def publish(nodes, qos):
    return nodes.node.create_publisher(
        String, "answers", qos, event_callbacks=publisher_events("/segmenter/answers", nodes.warn)
    )


def test_a_best_effort_publisher_that_a_reliable_subscription_misses_is_reported_with_the_remedy(nodes, capfd):
    subscribe(nodes, "reliable")
    nodes.other.create_publisher(String, "points", BEST_EFFORT)
    nodes.until(lambda: nodes.warnings)
    ((topic, problem),) = nodes.warnings
    assert topic == "/lidar/points"
    assert "a publisher is best effort while this node asks for reliable" in problem
    assert "set the parameter qos.reliability to auto" in problem
    assert "[tested]" not in capfd.readouterr().err  # rclpy's own warning would come beside it


@pytest.mark.parametrize("reliability", RELIABILITY)
def test_a_publisher_that_matches_is_received_without_a_warning(nodes, reliability):
    subscribe(nodes, reliability)
    publisher = nodes.other.create_publisher(String, "points", RELIABLE)
    nodes.until(publisher.get_subscription_count)
    nodes.until(lambda: nodes.received, lambda: publisher.publish(String(data="cloud")))
    assert not nodes.warnings


@pytest.mark.parametrize(
    ("offered", "asked", "policy", "remedy"),
    [(output_qos(5), QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL), "durability", "volatile"),
     (output_qos(5), QoSProfile(depth=1, deadline=Duration(seconds=1)), "deadline", "no deadline"),
     (LATCHED, QoSProfile(depth=1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC), "liveliness", "automatic"),
     (LATCHED, QoSProfile(depth=1, liveliness_lease_duration=Duration(seconds=1)), "liveliness", "without a lease")],
    ids=["durability", "deadline", "liveliness", "lease"],
)
def test_a_subscriber_that_asks_for_more_than_is_offered_is_reported_with_the_remedy(
    nodes, capfd, offered, asked, policy, remedy
):
    publish(nodes, offered)
    nodes.other.create_subscription(String, "answers", lambda _: None, asked)
    nodes.until(lambda: nodes.warnings)
    ((topic, problem),) = nodes.warnings
    assert topic == "/segmenter/answers"
    assert f"a subscriber asks for a {policy} that this node does not offer" in problem
    assert remedy in problem.split("let it ask for ")[1]
    assert "[tested]" not in capfd.readouterr().err


def test_mismatches_that_come_at_once_are_counted(nodes):
    publish(nodes, output_qos(5))
    for _ in range(3):
        nodes.other.create_subscription(String, "answers", lambda _: None, LATCHED)
    time.sleep(1.0)  # the middleware's threads find them, while nobody takes the events
    nodes.until(lambda: nodes.warnings)
    assert nodes.warnings[0][1].endswith("let it ask for volatile (2 more do not match)")
