"""Bag files of SQLite whose pages lead astray."""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing

import pytest

from tttkd_ros.bags import salvaged_database
from tttkd_ros.bags.salvaged_database import SalvagedDatabase

MESSAGES, PAGE, INNER_OF_INDEX = 2000, 4096, 2  # the last: a page's first byte, https://sqlite.org/fileformat.html


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bag.db3"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            f"PRAGMA page_size = {PAGE};"
            "CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT, type TEXT);"
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB);"
            "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
            "INSERT INTO topics VALUES (1, '/chatter', 'std_msgs/msg/String');"
        )
        rows = ((number, 10**18 + number // 3, b"hello") for number in range(1, MESSAGES + 1))
        database.executemany("INSERT INTO messages VALUES (?, 1, ?, ?)", rows)
    return path


def read(path) -> tuple[list[int], SalvagedDatabase]:
    salvaged = SalvagedDatabase(path)
    with closing(salvaged):
        return [time for _, time, _ in salvaged.messages(salvaged.connections)], salvaged


def test_of_a_sound_file_all_is_read_in_order(file):
    times, salvaged = read(file)
    assert len(times) == salvaged.connections[0].msgcount == MESSAGES
    assert times == sorted(times)
    assert (salvaged.lost, salvaged.torn) == ("", False)


def test_where_pages_lead_back_no_message_comes_twice(file):
    content = bytearray(file.read_bytes())
    (start,) = (start for start in range(0, len(content), PAGE) if content[start] == INNER_OF_INDEX)
    (first,) = struct.unpack_from(">H", content, start + 12)
    content[start + 8 : start + 12] = content[start + first : start + first + 4]  # the last child is the first again
    file.write_bytes(content)
    times, salvaged = read(file)
    assert MESSAGES / 2 < len(times) < MESSAGES
    assert times == sorted(times) and max(map(times.count, times)) == 3
    assert salvaged.lost == "some of its messages"


def test_what_is_read_without_end_comes_to_one(file, monkeypatch):
    monkeypatch.setattr(salvaged_database, "PATIENCE", 0.1)
    times, salvaged = read(file)
    assert len(times) < MESSAGES
    assert salvaged.lost == "some of its messages"
