"""A topic that the node listens to: received as its publishers send it, and watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier

from tttkd_ros.ros.doubles import Doubles
from tttkd_ros.ros.qos import UnsupportedEventTypeError, sensor_qos, subscription_events
from tttkd_ros.ros.silence import Offer, Silence

RELIABLE, BEST_EFFORT = WAYS = "reliable", "best_effort"


@dataclass(frozen=True)
class Input:
    """A topic as /diagnostics shows it. problem: why nothing comes; empty if all is well."""

    topic: str
    received: int
    lost: int
    problem: str


class SensorTopic:
    """Hands each message to `callback`: serialised if `raw`, else as a `kind`. For the executor's thread.

    With the reliability "auto" a reliable subscription is always there. It misses best-effort publishers, so a
    best-effort one stands beside it while there are such. That one hears reliable publishers, too: what came before is
    left out.

    once: one message is enough, as of a camera's calibration. complain: told the topic and the problem.
    """

    def __init__(
        self, node: Node, kind: type, topic: str, callback: Callable, *, reliability: str, depth: int,
        complain: Callable[[str, object], object], raw: bool = False, once: bool = False,
    ):
        self.name = node.resolve_topic_name(topic)
        self._node = node
        self._kind = kind
        self._topic = topic
        self._callback = callback
        self._depth = depth
        self._complain = complain
        self._raw = raw
        self._auto = reliability == "auto"
        self._silence = Silence(get_rmw_implementation_identifier(), once=once)
        self._problem = ""
        self._doubles: Doubles | None = None
        self._unneeded = 0  # looks in a row at which the best-effort subscription had no publisher
        self._subscriptions: dict[str, Subscription] = {}
        self._subscribe(RELIABLE if self._auto else reliability)
        self._follow(self._offers())

    def look(self) -> None:
        """Follow the publishers and complain about silence; to be called once a second."""
        offers = self._offers()
        self._follow(offers)
        before, self._problem = self._problem, self._silence.problem(offers, self._elsewhere)
        if self._problem and not before:
            self._complain(self.name, self._problem)

    def state(self) -> Input:
        return Input(self.name, self._silence.received, self._silence.lost, self._problem)

    def close(self) -> None:
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.popitem()[1])

    def _offers(self) -> list[Offer]:
        return [
            Offer(
                info.node_name, info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT,
                info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
            )
            for info in self._node.get_publishers_info_by_topic(self._topic)
        ]

    def _follow(self, offers: list[Offer]) -> None:
        if not self._auto:
            return
        if any(not offer.reliable for offer in offers):
            self._listen_to_best_effort()
        elif BEST_EFFORT in self._subscriptions:
            self._unneeded += 1
            if self._unneeded > 1:  # by now the last messages have been taken
                self._node.destroy_subscription(self._subscriptions.pop(BEST_EFFORT))

    def _listen_to_best_effort(self) -> None:
        self._unneeded = 0
        if BEST_EFFORT not in self._subscriptions:
            self._doubles = self._doubles or Doubles()
            self._subscribe(BEST_EFFORT)

    def _subscribe(self, reliability: str) -> None:
        create = partial(
            self._node.create_subscription, self._kind, self._topic, partial(self._on_message, reliability),
            sensor_qos(reliability, self._depth), raw=True,  # whose size is known, and whose doubles are
        )
        events = subscription_events(
            self.name, self._complain, lost=partial(self._on_loss, reliability),
            best_effort=self._listen_to_best_effort if self._auto else None,
        )
        try:
            self._subscriptions[reliability] = create(event_callbacks=events)
        except UnsupportedEventTypeError:  # of a middleware that does not know of lost messages
            self._subscriptions[reliability] = create()

    def _on_message(self, reliability: str, data: bytes) -> None:
        if self._doubles is not None and not self._doubles.is_new(WAYS.index(reliability), data):
            return
        self._silence.arrived(len(data))
        self._callback(data if self._raw else deserialize_message(data, self._kind))

    def _on_loss(self, reliability: str, count: int) -> None:
        offers = self._offers()
        if self._auto and reliability == BEST_EFFORT and any(offer.reliable for offer in offers):
            return  # the other subscription may have it
        self._complain(self.name, self._silence.loss(count, offers))

    def _elsewhere(self) -> list[str]:
        """Other topics of this type that other nodes publish."""
        wanted = f"{self._kind.__module__.partition('.')[0]}/msg/{self._kind.__name__}"
        own = self._node.get_fully_qualified_name()
        return [
            topic for topic, kinds in self._node.get_topic_names_and_types()
            if wanted in kinds and topic != self.name and not topic.startswith(f"{own}/")
            and self._node.count_publishers(topic)
        ]
