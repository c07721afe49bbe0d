"""The messages of a .db3 file, with those that a killed recorder left in the write-ahead log beside it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tttkd_ros.bags.connections import BagError, Connection, ros2_type

SQLITE = b"SQLite format 3\0"  # start of a file
JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # start of a rollback journal that is not rolled back yet


class SqliteFile:
    """An open .db3 file; a `Source`. Nothing is written beside the file.

    Raises ValueError if it is damaged or a write to it was not finished. SQLite also raises other errors for damage.
    """

    damage = None  # a file that was cut short is refused

    def __init__(self, path: Path):
        with ExitStack() as stack:
            self._database = _connect(path.resolve(), stack)
            self._topics: dict[int, Connection] = {}
            query = "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
            for key, topic, kind, encoding in self._database.execute(query):
                if not isinstance(topic, str) or not isinstance(kind, str):  # SQLite's cells are of any type
                    raise ValueError(f"a topic has the name {topic!r} and the type {kind!r}")
                if key in self._topics:
                    raise ValueError(f"{topic} has the same number as {self._topics[key].topic}")
                self._topics[key] = Connection(topic, ros2_type(kind), encoding=encoding)
            starts = []
            query = "SELECT topic_id, count(*), min(timestamp) FROM messages GROUP BY topic_id"
            for key, count, start in self._database.execute(query):
                if key not in self._topics or not isinstance(start, int):
                    raise ValueError(f"messages are of topic {key!r}, recorded at {start!r}")
                self._topics[key].msgcount = count
                starts.append(start)
            self._stack = stack.pop_all()
        self.connections = list(self._topics.values())
        self.start = min(starts, default=0)

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """See `Source`."""
        keys = [key for key, topic in self._topics.items() if topic in connections]
        query = (f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({', '.join('?' * len(keys))}) "
                 "ORDER BY timestamp, id")
        for key, time, data in self._database.execute(query, keys):
            yield self._topics[key], time, data

    def close(self) -> None:
        self._stack.close()


def _connect(path: Path, stack: ExitStack) -> sqlite3.Connection:
    """Open a database without changing it. path: without symbolic links, as the log lies beside the file itself."""
    journal, log = path.with_name(f"{path.name}-journal"), path.with_name(f"{path.name}-wal")
    if journal.is_file() and journal.open("rb").read(len(JOURNAL)) == JOURNAL:
        raise BagError(f"bag {path} was left in the midst of a write, with {journal.name}: copy both, and restore the "
                       f"copy with `sqlite3 {path.name} 'PRAGMA integrity_check'`")
    uri = f"{path.as_uri()}?immutable=1"
    if log.is_file() and log.stat().st_size:  # SQLite writes to a log even to read it
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tttkd_bag_")))
        shutil.copyfile(path, folder / "bag.db3")
        shutil.copyfile(log, folder / "bag.db3-wal")
        uri = (folder / "bag.db3").as_uri()
    return stack.enter_context(closing(sqlite3.connect(uri, uri=True, check_same_thread=False)))
