"""Any ROS 2 bag: a rosbag2 folder, an .mcap or a .db3 file, also compressed. Whatever is wrong is a ValueError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tttkd_ros.bags.bag_files import open_files
from tttkd_ros.bags.compression import ZSTD, unpack_message
from tttkd_ros.bags.connections import CDR, BagError, Connection, Source, damage_named, in_time_order, with_remedy
from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.livox import decode_livox, is_livox
from tttkd_ros.messages.stamps import stamp_of_raw


class Record(NamedTuple):
    """A serialised message. time: nanoseconds, when it was recorded."""

    topic: str
    type: str
    time: int
    data: bytes

    @property
    def stamp(self) -> int:
        """The stamp of its header, ns. Raises ValueError if the message is too short."""
        return stamp_of_raw(self.data)


class Bag:
    """An open bag: its files in their order, by path, and what the user should know.

    types, counts: topic -> message type, and number of messages. left_out: topic -> why its messages are not read.
    damage: where the last file is cut short; None if it is complete. notes: as given, and the damage.

    Raises BagError if a topic has two types, no topic has ROS 2 messages, or a file before the last one is cut short.
    """

    def __init__(self, path: Path, sources: Mapping[Path, Source], notes: Iterable[str] = ()):
        self.path = path
        self._sources = sources
        self._readable: set[Connection] = set()
        self.types: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.left_out: dict[str, str] = {}
        for source in sources.values():
            for connection in source.connections:
                self._add(connection)
        if self.left_out and not self.types:
            topic, reason = next(iter(self.left_out.items()))
            raise BagError(f"bag {path} holds no ROS 2 messages ({topic}: {reason}): record it with `ros2 bag record`")
        *complete, self.damage = [
            source.damage and with_remedy(f"{file} is cut short ({source.damage})", file)
            for file, source in sources.items()
        ]
        for damage in filter(None, complete):
            raise BagError(f"{damage}; only the last file of a bag is read as far as it goes")
        self.notes = [*notes, *([f"{self.damage}; it is read up to there"] if self.damage else [])]

    def _add(self, connection: Connection) -> None:
        topic, kind = connection.topic, connection.msgtype
        if connection.encoding == "ros1":
            raise BagError(f"bag {self.path} holds ROS 1 messages: convert the ROS 1 bag that it was made from, with "
                           f"`rosbags-convert --src in.bag --dst out` (it does not read MCAP files of ROS 1)")
        if connection.encoding != CDR:
            self.left_out[topic] = f"its messages are encoded as {connection.encoding or 'nothing'}, expected cdr"
        elif not kind:
            self.left_out[topic] = "the file does not name its message type"
        elif self.types.setdefault(topic, kind) != kind:
            raise BagError(f"bag {self.path}: topic {topic} holds both {self.types[topic]} and {kind}: record each on "
                           "a topic of its own")
        else:
            self.counts[topic] += connection.msgcount
            self._readable.add(connection)

    def messages(self, topics: Iterable[str]) -> Iterator[Record]:
        """Yield the messages of these topics in the order of recording, read as they are asked for."""
        topics = set(topics)
        wanted = {connection for connection in self._readable if connection.topic in topics}
        messages = in_time_order(
            (source.start, partial(_read_file, file, source, wanted))
            for file, source in self._sources.items()
            if not wanted.isdisjoint(source.connections)
        )
        for connection, time, data in messages:
            with damage_named(self.path, f", message on {connection.topic} recorded at {time!r}"):
                if not (isinstance(time, int) and isinstance(data, bytes)):  # SQLite's cells are of any type
                    raise ValueError(f"its content is {type(data).__name__}")
                if data.startswith(ZSTD):  # as rosbag2 compresses each message by itself
                    data = unpack_message(data)
            yield Record(connection.topic, connection.msgtype, time, data)

    def first(self, topic: str):
        """Decode the topic's first message. Raises BagError if there is none."""
        counted = self.counts[topic]
        if not counted:
            raise BagError(f"bag {self.path} holds no message on {topic}, expected at least one")
        for record in self.messages([topic]):
            return self.decode(record)
        raise BagError(f"bag {self.path} is damaged: it counts {counted} messages on {topic}, but has none")

    def decode(self, record: Record):
        """Decode a message by the standard definition of its type. Livox's CustomMsg becomes a PointCloud2.

        The bag's own definitions are not used: they would have to become code, and may lack fields that readers need.
        """
        with damage_named(self.path, f", message on {record.topic} recorded at {record.time}"):
            if is_livox(record.type):
                return decode_livox(record.data)
            return standard_types().deserialize_cdr(record.data, record.type)


@contextmanager
def open_bag(path: Path | str) -> Iterator[Bag]:
    """Open a bag. A last file of MCAP that was cut short is read up to the cut (`Bag.damage`).

    Raises ValueError if there is no bag, or it is damaged in any other way.
    """
    path = Path(path)
    with open_files(path) as (sources, notes):
        yield Bag(path, sources, notes)


def _read_file(path: Path, source: Source, wanted: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
    with damage_named(path):  # some damage shows only here
        yield from source.messages(wanted)
