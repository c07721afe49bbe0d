"""Any bag that rosbags can open (a rosbag2 folder, an .mcap, a .db3), its failures told as ValueError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rosbags.highlevel import AnyReader

from tttkd_ros.messages.definitions import standard_types


class Record(NamedTuple):
    """A serialised message. time: nanoseconds, when it was recorded."""

    topic: str
    type: str
    time: int
    data: bytes


class Bag:
    """An open bag. types: topic -> message type. counts: topic -> number of messages."""

    def __init__(self, path: Path, reader: AnyReader):
        self.path = path
        self._reader = reader
        self.types = {connection.topic: connection.msgtype for connection in reader.connections}
        self.counts: Counter[str] = Counter()
        for connection in reader.connections:
            self.counts[connection.topic] += connection.msgcount

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
            yield Record(connection.topic, connection.msgtype, time, data)

    def decode(self, record: Record):
        """The message as an object with the fields of its ROS type."""
        with _told(self.path, f", message on {record.topic} recorded at {record.time}"):
            return self._reader.deserialize(record.data, record.type)


@contextmanager
def open_bag(path: Path | str) -> Iterator[Bag]:
    """The bag at path. Raises ValueError where there is none, or it is not whole."""
    path = Path(path)
    if not path.exists():
        raise ValueError(f"no bag at {path}")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        raise ValueError(f"{path} is no whole bag: metadata.yaml, which a recorder writes last, is missing")
    with _told(path):
        reader = AnyReader([path], default_typestore=standard_types())
        reader.open()
    try:
        yield Bag(path, reader)
    finally:
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
