"""Publishers and subscribers that do not match, over DDS: what the node says about them."""

from __future__ import annotations

import time

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.duration import Duration  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import (  # noqa: E402
    DurabilityPolicy,
    LivelinessPolicy,
    QoSProfile,
    ReliabilityPolicy,
)
from sensor_msgs.msg import PointCloud2  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from tttkd_ros.ros.qos import (  # noqa: E402
    LATCHED,
    RELIABILITY,
    output_qos,
    publisher_events,
    sensor_qos,
    subscription_events,
)

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
PATIENCE = 20  # seconds until a test that waits in vain fails


class Pair:
    """The node's side and somebody else's, and what the node's side complained about."""

    def __init__(self):
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node, self.other = (rclpy.create_node(name, context=self.context) for name in ("ours", "theirs"))
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.other)
        self.said: list[tuple[str, str]] = []
        self.received: list[str] = []

    def complain(self, topic: str, problem: str) -> None:
        self.said.append((topic, problem))

    def until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.other.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def pair():
    pair = Pair()
    yield pair
    pair.close()


def subscribe(pair, reliability):
    return pair.node.create_subscription(
        String, "points", lambda message: pair.received.append(message.data), sensor_qos(reliability, 5),
        event_callbacks=subscription_events("/lidar/points", pair.complain, on_loss=lambda count: None),
    )


def publish(pair, qos):
    return pair.node.create_publisher(
        String, "answers", qos, event_callbacks=publisher_events("/segmenter/answers", pair.complain)
    )


def test_a_best_effort_publisher_that_a_reliable_subscription_misses_is_told_with_the_remedy(pair, capfd):
    subscribe(pair, "reliable")
    pair.other.create_publisher(String, "points", BEST_EFFORT)
    pair.until(lambda: pair.said)
    (topic, problem), = pair.said
    assert topic == "/lidar/points"
    assert "a publisher is best effort while this node asks for reliable" in problem
    assert "set the parameter qos.reliability to auto" in problem
    assert "[ours]" not in capfd.readouterr().err  # rclpy's own warning would come beside it


@pytest.mark.parametrize("reliability", RELIABILITY)
def test_a_publisher_that_matches_is_heard_and_not_complained_about(pair, reliability):
    subscribe(pair, reliability)
    publisher = pair.other.create_publisher(String, "points", RELIABLE)
    pair.until(publisher.get_subscription_count)
    publisher.publish(String(data="cloud"))
    pair.until(lambda: pair.received)
    assert not pair.said


@pytest.mark.parametrize(
    ("offered", "asked", "policy", "remedy"),
    [(output_qos(5), QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL), "durability", "volatile"),
     (output_qos(5), QoSProfile(depth=1, deadline=Duration(seconds=1)), "deadline", "no deadline"),
     (LATCHED, QoSProfile(depth=1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC), "liveliness", "automatic"),
     (LATCHED, QoSProfile(depth=1, liveliness_lease_duration=Duration(seconds=1)), "liveliness", "without a lease")],
    ids=["durability", "deadline", "liveliness", "lease"],
)
def test_a_subscriber_that_asks_for_more_than_is_offered_is_told_what_to_ask_for(
    pair, capfd, offered, asked, policy, remedy
):
    publish(pair, offered)
    pair.other.create_subscription(String, "answers", lambda _: None, asked)
    pair.until(lambda: pair.said)
    (topic, problem), = pair.said
    assert topic == "/segmenter/answers"
    assert f"a subscriber asks for a {policy} that this node does not offer" in problem
    assert remedy in problem.split("let it ask for ")[1]
    assert "[ours]" not in capfd.readouterr().err


def test_mismatches_that_come_at_once_are_counted(pair):
    publish(pair, output_qos(5))
    for _ in range(3):
        pair.other.create_subscription(String, "answers", lambda _: None, LATCHED)
    time.sleep(1.0)  # found by the middleware's threads, while nobody takes the events
    pair.until(lambda: pair.said)
    assert pair.said[0][1].endswith("let it ask for volatile (2 more do not match)")


def test_the_node_says_it_once_with_the_topic_after_remapping(start_node, models, ros):
    process = start_node(
        {"model": str(models.student), "cameras": [""], "qos.reliability": "reliable"}, "-r", "__node:=demanding"
    )
    process.wait_for("active: waiting for sweeps")
    talker = ros.Talker("demanding")
    for _ in range(2):
        talker.node.create_publisher(PointCloud2, "/lidar/points", BEST_EFFORT)
    talker.listen(PointCloud2, "/demanding/points_labeled", LATCHED)
    process.wait_for("/lidar/points: a publisher is best effort while this node asks for reliable", 20)
    process.wait_for("/demanding/points_labeled: a subscriber asks for a durability that this node does not offer", 20)
    talker.close()
    process.end()
    assert process.log.count("a publisher is best effort") == 1
    assert "incompatible QoS" not in process.log
