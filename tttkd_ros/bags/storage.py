"""Any ROS 2 bag (a rosbag2 folder, an .mcap, a .db3), its failures told as ValueError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rosbags.rosbag2 import Reader

from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.livox import decode_livox, is_livox


class Record(NamedTuple):
    """A serialised message. time: nanoseconds, when it was recorded."""

    topic: str
    type: str
    time: int
    data: bytes


class Bag:
    """An open bag. types: topic -> message type. counts: topic -> number of messages.

    reader: rosbags', or what has its `connections` and `messages`. damage: what is wrong with a bag of which only a
    part is open. torn: whether that part has messages behind what cannot be read.
    """

    def __init__(self, path: Path, reader: Reader, damage: str | None = None, *, torn: bool = False):
        self.path = path
        self.damage, self.torn = damage, torn
        self._reader = reader
        self.types: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        for topic, kind, count in [(entry.topic, entry.msgtype, entry.msgcount) for entry in reader.connections]:
            if not (isinstance(topic, str) and isinstance(kind, str) and isinstance(count, int)):
                raise ValueError("a topic has a name, type or number of messages that is none")
            if self.types.setdefault(topic, kind) != kind:
                raise ValueError(f"topic {topic} holds both {self.types[topic]} and {kind}")
            self.counts[topic] += count

    def messages(self, topics: Iterable[str]) -> Iterator[Record]:
        """The messages of these topics in the order of recording, read as they are asked for."""
        wanted = set(topics)
        connections = [connection for connection in self._reader.connections if connection.topic in wanted]
        if not connections:  # rosbags takes none for all
            return
        with _told(self.path):
            messages = self._reader.messages(connections)
        while True:
            with _told(self.path):
                message = next(messages, None)
                if message is None:
                    return
                connection, time, data = message
                if not (isinstance(time, int) and isinstance(data, bytes)):  # SQLite's cells are of any type
                    raise ValueError(f"a message on {connection.topic} is {type(data).__name__} recorded at {time!r}")
                if connection.topic not in wanted:  # in SQLite; rosbags takes the messages of both for the last one's
                    raise ValueError(f"{connection.topic} has the same number as {' or '.join(sorted(wanted))}")
            yield Record(connection.topic, connection.msgtype, time, data)

    def first(self, topic: str):
        """The topic's first message, as by `decode`; ValueError where it has none, against its count."""
        record = next(self.messages([topic]), None)
        if record is None:
            raise ValueError(f"bag {self.path} is damaged: it counts {self.counts[topic]} messages on {topic}, but has "
                             "none")
        return self.decode(record)

    def decode(self, record: Record):
        """The message as an object with the fields of its ROS type, by the standard definition of that.

        The bag's own definitions are not used: code would have to be generated from what a file says, and its messages
        might lack fields that the type's readers count on. Livox's CustomMsg becomes a PointCloud2.
        """
        with _told(self.path, f", message on {record.topic} recorded at {record.time}"):
            if is_livox(record.type):
                return decode_livox(record.data)
            return standard_types().deserialize_cdr(record.data, record.type)


@contextmanager
def open_bag(path: Path | str) -> Iterator[Bag]:
    """The bag at path. Raises ValueError where there is none, or it is not whole."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no bag at {path}")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise ValueError(f"{path} is no whole bag: metadata.yaml, which a recorder writes last, is missing")
    with _told(path):
        reader = Reader(path)
        reader.open()
    try:
        with _told(path):
            bag = Bag(path, reader)
        yield bag
    finally:
        with _told(path):
            reader.close()


@contextmanager
def _told(path: Path, where: str = "") -> Iterator[None]:
    try:
        yield
    # The parsers of a damaged file let out whatever their unpacking, decompressing and indexing raises, not only
    # their own errors: at this boundary every one means the same.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"bag {path}{where} is damaged or cut short, or of an unknown kind: {reason}") from error
