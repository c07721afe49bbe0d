"""Quality of service of the node's topics.

The node subscribes as each publisher offers, unless the parameters say otherwise (`sensor_topic`). It publishes
reliably: a reliable publisher matches every subscription, and sends best effort to a best-effort one.
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

# What a subscriber should ask for instead of what the node does not offer.
MATCHING_REQUESTS = {
    "DURABILITY": "volatile",
    "DEADLINE": "no deadline",
    "LIVELINESS": "automatic liveliness without a lease",
}


def sensor_qos(reliability: str, depth: int) -> QoSProfile:
    """For subscriptions to points, images and camera infos."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=RELIABILITY[reliability])


def output_qos(depth: int) -> QoSProfile:
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)


LATCHED = output_qos(1)
LATCHED.durability = DurabilityPolicy.TRANSIENT_LOCAL


def subscription_events(
    topic: str,
    warn: Callable[[str, str], object],
    *,
    on_loss: Callable[[int], object],
    on_best_effort: Callable[[], object] | None = None,
) -> SubscriptionEventCallbacks:
    """Callbacks that warn of publishers that do not match, with the remedy, instead of rclpy's own warning.

    Args:
        topic: name as publishers see it.
        warn: logs a problem of a topic.
        on_loss: receives the number of lost messages.
        on_best_effort: called instead of a warning if a reliable subscription misses a best-effort publisher.
    """

    def on_mismatch(event) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if policy == "RELIABILITY" and on_best_effort is not None:
            on_best_effort()
            return
        if policy == "RELIABILITY":
            cause = "a publisher is best effort while this node asks for reliable"
            remedy = "set the parameter qos.reliability to auto, or make the publisher reliable"
        else:
            cause = f"a publisher offers another {_spelled(policy)} than this node asks for"
            remedy = "use the default there"
        warn(topic, f"{cause}, so nothing of it arrives: {remedy}{_others(event)}")

    return SubscriptionEventCallbacks(
        incompatible_qos=on_mismatch, message_lost=lambda event: on_loss(event.total_count_change)
    )


def publisher_events(topic: str, warn: Callable[[str, str], object]) -> PublisherEventCallbacks:
    """Callbacks that warn of subscribers that ask for more than the node offers; arguments as above."""

    def on_mismatch(event) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        warn(
            topic,
            f"a subscriber asks for a {_spelled(policy)} that this node does not offer, so it receives nothing: "
            f"let it ask for {MATCHING_REQUESTS.get(policy, 'the default')}{_others(event)}",
        )

    return PublisherEventCallbacks(incompatible_qos=on_mismatch)


def _spelled(policy: str) -> str:
    return policy.lower().replace("_", " ")


def _others(event) -> str:
    """The middleware gives the policy of the last one only."""
    return f" ({event.total_count_change - 1} more do not match)" if event.total_count_change > 1 else ""
