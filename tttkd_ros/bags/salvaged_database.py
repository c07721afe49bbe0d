"""What can be read of an SQLite bag file with damaged pages."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

from tttkd_ros.bags.connections import Connection

PATIENCE = 4  # SQLite's instructions for each byte of a file; a sound one takes one at most
EVERY = 1000  # of them it may be interrupted


class SalvagedDatabase:
    """The messages of a .db3 file, each read by itself, so that one on a damaged page costs no other; in the order of
    their times, as far as the index of these goes.

    As rosbags' reader: `connections` (topic, msgtype, msgcount), `messages` and `close`. lost: how much cannot be read;
    empty if all can. torn: whether there are messages behind what cannot.
    """

    def __init__(self, path: Path):
        self._database = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)
        self._size, self._whole = path.stat().st_size, True
        self._begin()
        self._topics = {
            key: Connection(topic, kind)
            for key, topic, kind in self._rows("SELECT id, name, type FROM topics")
        }
        counts: Counter[int] = Counter()
        self.torn = False
        for key, _, _ in self._messages():
            counts[key] += 1
            self.torn |= not self._whole
        for key, topic in self._topics.items():
            topic.msgcount = counts[key]
        self.connections = list(self._topics.values())
        self.lost = "" if self._whole else "some of its messages"

    def messages(self, connections: Collection) -> Iterator[tuple[Connection, int, bytes]]:
        for key, time, data in self._messages():
            if self._topics[key] in connections:
                yield self._topics[key], time, data

    def close(self) -> None:
        self._database.close()

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Topic's number, time and content of each message that can be read."""
        self._begin()
        before = ()
        for place in self._rows("SELECT timestamp, id FROM messages ORDER BY timestamp, id"):
            if not all(isinstance(number, int) for number in place) or place <= before:  # as where pages lead in a ring
                self._whole = False
                continue
            before = place
            query = "SELECT topic_id, timestamp, data FROM messages WHERE id = ? LIMIT 1"
            for key, time, data in self._rows(query, place[1]):
                if key in self._topics and isinstance(time, int) and isinstance(data, bytes):
                    yield key, time, data
                else:
                    self._whole = False

    def _begin(self) -> None:
        """Patience for all of the file anew: damaged pages may lead SQLite around without end."""
        calls = iter(range(1 + int(PATIENCE * self._size) // EVERY))
        self._database.set_progress_handler(lambda: next(calls, None) is None, EVERY)

    def _rows(self, query: str, *values: int) -> Iterator[tuple]:
        """As far as they can be read."""
        with closing(self._database.cursor()) as cursor:
            try:
                yield from cursor.execute(query, values)
            except sqlite3.Error:
                self._whole = False
