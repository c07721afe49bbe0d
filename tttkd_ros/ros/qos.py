"""Quality of service of the node's topics.

What arrives is taken as each publisher offers it, unless the parameters say otherwise (`sensor_topic`). What leaves is
offered reliably: a reliable publisher matches every subscription, and to a best-effort one it sends best effort all the
same.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind

try:
    from rclpy import event_handler as events
except ImportError:  # ROS 2 Humble
    from rclpy import qos_event as events

PublisherEventCallbacks, SubscriptionEventCallbacks = events.PublisherEventCallbacks, events.SubscriptionEventCallbacks
UnsupportedEventTypeError = events.UnsupportedEventTypeError

RELIABILITY = {"best_effort": ReliabilityPolicy.BEST_EFFORT, "reliable": ReliabilityPolicy.RELIABLE}

# What a subscriber may ask for beyond what the node offers, and what it should ask for instead.
ASK_FOR = {
    "DURABILITY": "volatile",
    "DEADLINE": "no deadline",
    "LIVELINESS": "automatic liveliness without a lease",
}

LATCHED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def sensor_qos(reliability: str, depth: int) -> QoSProfile:
    """Subscriptions to points, images and camera infos."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=RELIABILITY[reliability])


def output_qos(depth: int) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)


def subscription_events(
    topic: str,
    complain: Callable[[str, str], object],
    *,
    lost: Callable[[int], object],
    best_effort: Callable[[], object] | None = None,
) -> SubscriptionEventCallbacks:
    """Complains about a publisher that does not match, with the remedy, in place of rclpy's own warning.

    topic: as publishers see it. complain: told the topic and the problem. lost: told how many messages were lost.
    best_effort: called for a best-effort publisher that a reliable subscription misses, instead of a complaint.
    """

    def mismatch(event) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy == "RELIABILITY":
            if best_effort is not None:
                best_effort()
                return
            theirs = "a publisher is best effort while this node asks for reliable"
            remedy = "set the parameter qos.reliability to auto, or let the publisher be reliable"
        else:
            theirs = f"a publisher offers another {_spelled(policy)} than this node asks for"
            remedy = "let it have the default"
        complain(topic, f"{theirs}, and nothing of it arrives: {remedy}{_others(event)}")

    return SubscriptionEventCallbacks(
        incompatible_qos=mismatch, message_lost=lambda event: lost(event.total_count_change)
    )


def publisher_events(topic: str, complain: Callable[[str, str], object]) -> PublisherEventCallbacks:
    """The same for subscribers that ask for more than the node offers."""

    def mismatch(event) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        complain(
            topic,
            f"a subscriber asks for a {_spelled(policy)} that this node does not offer, and receives nothing: "
            f"let it ask for {ASK_FOR.get(policy, 'the default')}{_others(event)}",
        )

    return PublisherEventCallbacks(incompatible_qos=mismatch)


def _spelled(policy: str) -> str:
    return policy.lower().replace("_", " ")


def _others(event) -> str:
    """The middleware tells the last one's policy only."""
    return f" ({event.total_count_change - 1} more do not match)" if event.total_count_change > 1 else ""
