"""What all files of a bag have in common: topics with their types, and messages in the order of time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Protocol, TypeVar

from tttkd_ros.bags.errors import BagError

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
        connections: The topics.
        start: The first recording time, ns.
        damage: Where a file that was cut short ends; None if it is complete.
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
        sources: Of each the first time, and a function that opens it.
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


def split_by_encoding(path, connections: Iterable[Connection]) -> tuple[list[Connection], dict[str, str]]:
    """Split connections into those with ROS 2 messages and the others.

    Returns:
        The connections with ROS 2 messages; topic -> reason, of the others.

    Raises:
        BagError: There are only others, or they are of ROS 1.
    """
    readable, others = [], {}
    for connection in connections:
        if connection.encoding == "ros1":
            raise BagError(f"bag {path} holds ROS 1 messages: convert the ROS 1 bag that it was made from, with "
                           f"`rosbags-convert --src in.bag --dst out` (it does not read MCAP files of ROS 1)")
        if connection.encoding != CDR:
            others[connection.topic] = f"its messages are encoded as {connection.encoding or 'nothing'}, expected cdr"
        elif not connection.msgtype:
            others[connection.topic] = "the file does not name its message type"
        else:
            readable.append(connection)
    if others and not readable:
        topic, reason = next(iter(others.items()))
        raise BagError(f"bag {path} holds no ROS 2 messages ({topic}: {reason}): record it with `ros2 bag record`")
    return readable, others
