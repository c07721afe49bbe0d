"""A topic that the node subscribes to: received as its publishers offer it, and monitored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier

from tttkd_ros.fastdds import loss_remedy
from tttkd_ros.messages.duplicates import DuplicateFilter
from tttkd_ros.monitoring.topic_health import PublisherInfo, TopicHealth
from tttkd_ros.ros.qos import UnsupportedEventTypeError, sensor_qos, subscription_events

RELIABLE, BEST_EFFORT = RELIABILITIES = "reliable", "best_effort"


class SensorTopic:
    """Hands each message of a topic to a callback and monitors its `health`. All methods are for the executor's thread.

    With the reliability "auto" there is always a reliable subscription. It misses best-effort publishers, so there is a
    best-effort one beside it as long as there are such publishers. That one also receives from reliable publishers:
    messages that have come already are left out.

    Args:
        kind: message class.
        callback: takes a message, serialised if `raw`.
        reliability: "auto", "reliable" or "best_effort".
        depth: messages that the middleware keeps.
        warn: logs a problem of a topic.
        once: one message is enough, as of a camera's calibration.
    """

    def __init__(
        self, node: Node, kind: type, topic: str, callback: Callable, *, reliability: str, depth: int,
        warn: Callable[[str, object], object], raw: bool = False, once: bool = False,
    ):
        self._name = node.resolve_topic_name(topic)
        self._node = node
        self._kind = kind
        self._topic = topic
        self._callback = callback
        self._depth = depth
        self._warn = warn
        self._raw = raw
        self._auto = reliability == "auto"
        self.health = TopicHealth(self._name, loss_remedy(get_rmw_implementation_identifier()), once=once)
        self._duplicates: DuplicateFilter | None = None
        self._unused_checks = 0  # checks in a row that found no publisher for the best-effort subscription
        self._subscriptions: dict[str, Subscription] = {}
        self._subscribe(RELIABLE if self._auto else reliability)
        self._follow(self._publishers())

    def check(self) -> None:
        """Adapt to the present publishers and warn of silence. Call this once a second."""
        publishers = self._publishers()
        self._follow(publishers)
        if self.health.check(publishers, self._alternatives):
            self._warn(self._name, self.health.problem)

    def close(self) -> None:
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.popitem()[1])

    def _publishers(self) -> list[PublisherInfo]:
        return [
            PublisherInfo(
                info.node_name, info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT,
                info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
            )
            for info in self._node.get_publishers_info_by_topic(self._topic)
        ]

    def _follow(self, publishers: list[PublisherInfo]) -> None:
        if not self._auto:
            return
        if not all(publisher.reliable for publisher in publishers):
            self._add_best_effort()
        elif BEST_EFFORT in self._subscriptions:
            self._unused_checks += 1
            if self._unused_checks > 1:  # by now the last messages have been taken
                self._node.destroy_subscription(self._subscriptions.pop(BEST_EFFORT))

    def _add_best_effort(self) -> None:
        self._unused_checks = 0
        if BEST_EFFORT not in self._subscriptions:
            self._duplicates = self._duplicates or DuplicateFilter()
            self._subscribe(BEST_EFFORT)

    def _subscribe(self, reliability: str) -> None:
        create = partial(
            self._node.create_subscription, self._kind, self._topic, partial(self._on_message, reliability),
            sensor_qos(reliability, self._depth), raw=True,  # for its size, and to recognise duplicates
        )
        events = subscription_events(
            self._name, self._warn, on_loss=partial(self._on_loss, reliability),
            on_best_effort=self._add_best_effort if self._auto else None,
        )
        try:
            self._subscriptions[reliability] = create(event_callbacks=events)
        except UnsupportedEventTypeError:  # a middleware that does not report lost messages
            self._subscriptions[reliability] = create()

    def _on_message(self, reliability: str, data: bytes) -> None:
        if self._duplicates is not None and not self._duplicates.is_new(RELIABILITIES.index(reliability), data):
            return
        self.health.add_message(len(data))
        self._callback(data if self._raw else deserialize_message(data, self._kind))

    def _on_loss(self, reliability: str, count: int) -> None:
        publishers = self._publishers()
        if self._auto and reliability == BEST_EFFORT and any(publisher.reliable for publisher in publishers):
            return  # the other subscription may have received it
        self._warn(self._name, self.health.add_losses(count, publishers))

    def _alternatives(self) -> list[str]:
        """Other topics of this type that other nodes publish."""
        wanted = f"{self._kind.__module__.partition('.')[0]}/msg/{self._kind.__name__}"
        own = self._node.get_fully_qualified_name()
        return [
            topic for topic, kinds in self._node.get_topic_names_and_types()
            if wanted in kinds and topic != self._name and not topic.startswith(f"{own}/")
            and self._node.count_publishers(topic)
        ]
