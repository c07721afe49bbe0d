"""The messages of a .db3 file, with those that a killed recorder left in the write-ahead log beside it."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import apsw

from tttkd_ros.bags.connections import Connection, ros2_type
from tttkd_ros.bags.errors import BagError

JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"  # start of a rollback journal that is not rolled back yet


class SqliteFile:
    """An open .db3 file; a `Source`. Nothing is written beside the file.

    Raises:
        BagError: A write to the file was not finished.
        ValueError: The file is damaged. SQLite also raises other errors for that.
    """

    damage = None  # SQLite refuses a file that was cut short

    def __init__(self, path: Path):
        with ExitStack() as stack:
            self._database = _connect(path.resolve(), stack)
            self._topics: dict[int, Connection] = {}
            for key, topic, kind, encoding in self._database.execute(
                "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
            ):
                if not isinstance(topic, str) or not isinstance(kind, str):  # SQLite's cells are of any type
                    raise ValueError(f"a topic has the name {topic!r} and the type {kind!r}")
                if key in self._topics:
                    raise ValueError(f"{topic} has the same number as {self._topics[key].topic}")
                self._topics[key] = Connection(topic, ros2_type(kind), encoding=encoding)
            starts = []
            for key, count, start in self._database.execute(
                "SELECT topic_id, count(*), min(timestamp) FROM messages GROUP BY topic_id"
            ):
                if key not in self._topics or not isinstance(start, int):
                    raise ValueError(f"messages are of topic {key!r}, recorded at {start!r}")
                self._topics[key].msgcount = count
                starts.append(start)
            self._stack = stack.pop_all()
        self.connections = list(self._topics.values())
        self.start = min(starts, default=0)

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield connection, recording time in nanoseconds and content of each message, in the order of time."""
        keys = [key for key, topic in self._topics.items() if topic in connections]
        query = (f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({', '.join('?' * len(keys))}) "
                 "ORDER BY timestamp, id")
        for key, time, data in self._database.execute(query, keys):
            yield self._topics[key], time, data

    def close(self) -> None:
        """Close the file."""
        self._stack.close()


def _connect(path: Path, stack: ExitStack) -> apsw.Connection:
    """Open a database without changing it. path: without symbolic links, as the log lies beside the file itself."""
    journal, log = path.with_name(f"{path.name}-journal"), path.with_name(f"{path.name}-wal")
    if journal.is_file() and journal.open("rb").read(len(JOURNAL)) == JOURNAL:
        raise BagError(f"bag {path} was left in the midst of a write, with {journal.name}: copy both, and restore the "
                       f"copy with `sqlite3 {path.name} 'PRAGMA integrity_check'`")
    if log.is_file() and log.stat().st_size:
        return _connect_with_log(path, log, stack)
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    database = apsw.Connection(f"{path.as_uri()}?immutable=1", flags=flags)
    stack.callback(database.close)
    return database


def _connect_with_log(path: Path, log: Path, stack: ExitStack) -> apsw.Connection:
    """Open a database with a copy of its log.

    SQLite writes to a log and its index, even to read them. With an exclusive lock it keeps the index in memory.
    """
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="tttkd_bag_")))
    name = folder / "bag.db3"
    name.touch()  # the log gets its permissions
    shutil.copyfile(log, folder / "bag.db3-wal")
    system = _Redirected(str(name), str(path))
    stack.callback(system.unregister)
    database = apsw.Connection(str(name), flags=apsw.SQLITE_OPEN_READONLY, vfs=system.name)
    stack.callback(database.close)
    database.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    return database


class _Redirected(apsw.VFS):
    """The default file system, except that `name` opens the file at `path`, for reading and without a lock."""

    def __init__(self, name: str, path: str):
        self.name = f"redirected {name}"
        self._from, self._to = name, path
        super().__init__(self.name, "")

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name  # the default follows links, and looks for the log beside the file itself

    def xOpen(self, name, flags: list[int]):  # noqa: N802
        if name is not None and flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return _Unlocked("", self._to, flags)
        return apsw.VFSFile("", name, flags)


class _Unlocked(apsw.VFSFile):
    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False
