"""What all files of a bag have in common: topics with their types, and messages in the order of time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Protocol, TypeVar

CDR = "cdr"  # how ROS 2 serialises messages

Timed = TypeVar("Timed", bound=tuple)  # its second item is a time in nanoseconds


@dataclass(eq=False)
class Connection:
    """A topic of one file. msgtype: empty if the file does not name it."""

    topic: str
    msgtype: str
    msgcount: int = 0
    encoding: str = CDR


class Source(Protocol):
    """Messages of one or several files.

    Attributes:
        connections: the topics.
        start: the first recording time, ns.
        damage: where a file that was cut short ends; None if it is complete.
    """

    connections: list[Connection]
    start: int
    damage: str | None

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, recording time (ns) and content of each message, in the order of time."""


def in_time_order(sources: Iterable[tuple[int, Callable[[], Iterable[Timed]]]]) -> Iterator[Timed]:
    """Merge the items of several sources in the order of time; of equal times, the earlier source comes first.

    A source is opened only when its first time is due, so that few of them are in memory.

    Args:
        sources: of each the first time, and a function that opens it.
    """

    def opened_when_due(place: int, start: int, read: Callable[[], Iterable[Timed]]):
        yield start, place, None
        for item in read():
            yield item[1], place, item

    streams = [opened_when_due(place, *source) for place, source in enumerate(sources)]
    for _, _, item in merge(*streams, key=lambda entry: entry[:2]):
        if item is not None:
            yield item


def ros2_type(name: str) -> str:
    """Spell "sensor_msgs/PointCloud2" and "sensor_msgs::msg::PointCloud2" as "sensor_msgs/msg/PointCloud2"."""
    parts = name.replace("::", "/").split("/")
    return "/".join([parts[0], "msg", parts[1]] if len(parts) == 2 else parts)
