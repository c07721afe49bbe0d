"""Any ROS 2 bag: a rosbag2 folder, an .mcap or a .db3 file, also compressed. Whatever is wrong is a ValueError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tttkd_ros.bags.bag_files import open_files
from tttkd_ros.bags.compression import unpack_message
from tttkd_ros.bags.connections import Source, ros2_type, split_by_encoding
from tttkd_ros.bags.errors import BagError, damage_named
from tttkd_ros.bags.file_kinds import ZSTD
from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.livox import decode_livox, is_livox


class Record(NamedTuple):
    """A serialised message. time: nanoseconds, when it was recorded."""

    topic: str
    type: str
    time: int
    data: bytes


class Bag:
    """An open bag.

    Args:
        path: Its name in error messages.
        source: Where the messages come from.
        damage: What is missing of a bag that was cut short; None if it is complete.
        notes: What the user should know, the damage included.

    Attributes:
        types: Topic -> message type.
        counts: Topic -> number of messages.
        left_out: Topic -> why its messages are not read.

    Raises:
        BagError: A topic has two types, or no topic has ROS 2 messages.
    """

    def __init__(self, path: Path, source: Source, damage: str | None = None, notes: tuple[str, ...] = ()):
        self.path = path
        self.damage, self.notes = damage, notes
        self._source = source
        self._connections, self.left_out = split_by_encoding(path, source.connections)
        self.types: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        for entry in self._connections:
            kind = ros2_type(entry.msgtype)
            if self.types.setdefault(entry.topic, kind) != kind:
                both = f"{self.types[entry.topic]} and {kind}"
                raise BagError(f"bag {path}: topic {entry.topic} holds both {both}: record each on a topic of its own")
            self.counts[entry.topic] += entry.msgcount

    def messages(self, topics: Iterable[str]) -> Iterator[Record]:
        """Yield the messages of these topics in the order of recording, read as they are asked for."""
        wanted = set(topics)
        connections = [connection for connection in self._connections if connection.topic in wanted]
        for connection, time, data in self._source.messages(connections) if connections else ():
            with damage_named(self.path, f", message on {connection.topic} recorded at {time!r}"):
                if not (isinstance(time, int) and isinstance(data, bytes)):  # SQLite's cells are of any type
                    raise ValueError(f"its content is {type(data).__name__}")
                if data.startswith(ZSTD):  # as rosbag2 compresses each message by itself
                    data = unpack_message(data)
            yield Record(connection.topic, self.types[connection.topic], time, data)

    def first(self, topic: str):
        """Decode the topic's first message. Raises BagError if there is none."""
        if not self.counts[topic]:
            raise BagError(f"bag {self.path} holds no message on {topic}, expected at least one")
        record = next(self.messages([topic]), None)
        if record is None:
            counted = self.counts[topic]
            raise BagError(f"bag {self.path} is damaged: it counts {counted} messages on {topic}, but has none")
        return self.decode(record)

    def decode(self, record: Record):
        """Decode a message to an object with the fields of its ROS type, by the standard definition of the type.

        The bag's own definitions are not used: code would have to be generated from what a file says, and its messages
        might lack fields that the readers need. Livox's CustomMsg becomes a PointCloud2.
        """
        with damage_named(self.path, f", message on {record.topic} recorded at {record.time}"):
            if is_livox(record.type):
                return decode_livox(record.data)
            return standard_types().deserialize_cdr(record.data, record.type)


@contextmanager
def open_bag(path: Path | str) -> Iterator[Bag]:
    """Open the bag at path.

    An MCAP file that was cut short is read up to the cut (`Bag.damage`).

    Raises:
        ValueError: There is no bag, or it is damaged in any other way.
    """
    path = Path(path)
    with open_files(path) as files:
        yield Bag(path, files, files.damage, files.notes)
