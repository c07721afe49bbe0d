"""Notices a topic that brings no messages, or loses them, and says what to do about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_SILENCE_S = 5.0  # longer for messages that are seldom sent
MEGABYTE = 1e6


@dataclass(frozen=True)
class PublisherInfo:
    """A publisher of a topic, as the ROS graph shows it."""

    node: str
    reliable: bool
    latched: bool = False

    def __str__(self) -> str:
        return f"{self.node}, {'reliable' if self.reliable else 'best effort'}{', latched' if self.latched else ''}"


class TopicHealth:
    """Counts one topic's messages and says what is wrong with it.

    loss_remedy: what to do about the loss of large messages. once: one message is enough, and no publisher is needed.
    """

    def __init__(self, topic: str, loss_remedy: str, *, once: bool = False,
                 clock: Callable[[], float] = time.monotonic):
        self.topic = topic
        self.received = 0
        self.lost = 0
        self.problem = ""  # why nothing comes; empty if all is well
        self._size = 0  # bytes of the last message; 0 before the first
        self._loss_remedy = loss_remedy
        self._once = once
        self._clock = clock
        self._since = clock()  # time of the last message, or from which one is expected
        self._gap = 0.0  # seconds between the last two messages
        self._published = False

    def add_message(self, size: int) -> None:
        """Count a message of `size` bytes."""
        now = self._clock()
        if self.received:
            self._gap = now - self._since
        self._since = now
        self.received += 1
        self._size = size

    def add_losses(self, count: int, publishers: Sequence[PublisherInfo]) -> str:
        """Count messages that the middleware has lost; returns the warning."""
        self.lost += count
        size = f", the last received message has {self._size / MEGABYTE:.1f} MB" if self._size else ""
        details = f" (sent by {' or '.join(map(str, publishers))}{size})" if publishers else ""
        return f"{count} message{'s' if count > 1 else ''} lost on the way{details}: {self._loss_remedy}"

    def check(self, publishers: Sequence[PublisherInfo], find_topics: Callable[[], Sequence[str]] = tuple) -> bool:
        """Update `problem`; return whether one has just begun. find_topics: finds other topics of the type."""
        before, self.problem = self.problem, self._problem(publishers, find_topics)
        return bool(self.problem) and not before

    def _problem(self, publishers: Sequence[PublisherInfo], find_topics: Callable[[], Sequence[str]]) -> str:
        now = self._clock()
        if bool(publishers) != self._published:  # a new publisher gets time to send
            self._published = bool(publishers)
            self._since = now
        silent = now - self._since
        if silent <= max(MAX_SILENCE_S, 3 * self._gap) or (self._once and (self.received or not publishers)):
            return ""
        if publishers:
            one = len(publishers) == 1
            subject = f"{'a publisher' if one else 'publishers'} ({'; '.join(map(str, publishers))})"
            size = f", {self._size / MEGABYTE:.1f} MB the last" if self._size else ""
            after = f" after {self.received} messages{size}," if self.received else ""
            return (f"{subject} {'is' if one else 'are'} there, but{after} nothing has come for {silent:.0f} s: "
                    f"{self._silence_remedy(publishers)}")
        alternatives = ", ".join(find_topics())
        remedy = f"remap it to one that is published ({alternatives})" if alternatives else "start the driver"
        return f"nobody has published it for {silent:.0f} s: {remedy}, and compare ROS_DOMAIN_ID and RMW_IMPLEMENTATION"

    def _silence_remedy(self, publishers: Sequence[PublisherInfo]) -> str:
        if all(publisher.latched for publisher in publishers):
            return "it may have sent its messages before this node started: send them again"
        lost = "if it sends, its messages are lost on the way"
        if all(publisher.reliable for publisher in publishers):
            return f"{lost}: containers need --ipc=host and one user, hosts an open firewall (docs/networking.md)"
        return f"{lost}: {self._loss_remedy}"
