"""Notices a topic on which nothing comes, or nothing any more, and says what may be in the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tttkd_ros.ros import fastdds

PATIENCE_S = 5.0  # of silence; messages that come seldom have longer
MEGABYTE = 1e6


@dataclass(frozen=True)
class Offer:
    """A publisher, as the graph shows it."""

    node: str
    reliable: bool
    latched: bool = False

    def __str__(self) -> str:
        return f"{self.node}, {'reliable' if self.reliable else 'best effort'}{', latched' if self.latched else ''}"


class Silence:
    """One topic's arrivals, and what is wrong with them.

    middleware: rmw's name of it. once: the topic is well once one message has come, and needs no publisher.
    clock: seconds, steady.
    """

    def __init__(self, middleware: str, *, once: bool = False, clock: Callable[[], float] = time.monotonic):
        self.received = 0
        self.lost = 0
        self.size = 0  # bytes of the last message; 0 before the first
        self._middleware = middleware
        self._once = once
        self._clock = clock
        self._since = clock()  # of the last message, or of the time from which one was to be expected
        self._gap = 0.0  # seconds between the last two messages
        self._published = False

    def arrived(self, size: int) -> None:
        now = self._clock()
        if self.received:
            self._gap = now - self._since
        self._since = now
        self.received += 1
        self.size = size

    def problem(self, offers: Sequence[Offer], elsewhere: Callable[[], Sequence[str]] = tuple) -> str:
        """What to say at this moment; empty if all is well.

        offers: the topic's publishers. elsewhere: finds other topics on which its type is published.
        """
        now = self._clock()
        if bool(offers) != self._published:  # a publisher that has just come has its time
            self._published = bool(offers)
            self._since = now
        silent = now - self._since
        if silent <= max(PATIENCE_S, 3 * self._gap) or (self._once and (self.received or not offers)):
            return ""
        if offers:
            one = len(offers) == 1
            told = f"{'a publisher' if one else 'publishers'} ({'; '.join(map(str, offers))}) {'is' if one else 'are'}"
            size = f", {self.size / MEGABYTE:.1f} MB the last" if self.size else ""
            again = f" after {self.received} messages{size}," if self.received else ""
            return f"{told} there, but{again} nothing has come for {silent:.0f} s: {self._remedy(offers)}"
        found = ", ".join(elsewhere())
        remedy = f"remap it to one that is ({found})" if found else "start the driver"
        return f"nobody has published it for {silent:.0f} s: {remedy}, and compare ROS_DOMAIN_ID and RMW_IMPLEMENTATION"

    def loss(self, count: int, offers: Sequence[Offer]) -> str:
        """Count messages that the middleware has lost, and what to say of them."""
        self.lost += count
        size = f", the last that came has {self.size / MEGABYTE:.1f} MB" if self.size else ""
        told = f" (sent by {' or '.join(map(str, offers))}{size})" if offers else ""
        return f"{count} message{'s' if count > 1 else ''} lost on the way{told}: {remedy(self._middleware)}"

    def _remedy(self, offers: Sequence[Offer]) -> str:
        if all(offer.latched for offer in offers):
            return "it may have sent its messages before this node was there: let it send them again"
        said = "if it is sending, its messages are lost on the way"
        if all(offer.reliable for offer in offers):
            return f"{said}: containers need --ipc=host and one user, hosts an open firewall (docs/networking.md)"
        return f"{said}: {remedy(self._middleware)}"


def remedy(middleware: str) -> str:
    """Against the loss of large messages."""
    if "fastrtps" in middleware:
        return (f"start its process with {'='.join(fastdds.setting())}; between hosts raise net.core.rmem_max "
                "(docs/networking.md)")
    if "cyclonedds" in middleware:
        return "raise net.core.rmem_max and Cyclone DDS's SocketReceiveBufferSize (docs/networking.md)"
    return "let it be reliable, or see docs/networking.md"
