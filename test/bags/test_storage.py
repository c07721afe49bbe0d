import random
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from tttkd_ros.bags import topics
from tttkd_ros.bags.connections import Connection
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import Bag, open_bag


@pytest.fixture
def bag(frame, write_frames):
    return write_frames([frame(index) for index in range(4)])


def read_all(path):
    with open_bag(path) as bag:
        return [bag.decode(record) for record in bag.messages(bag.types)]


def test_a_bag_is_opened_by_its_folder_or_its_file(bag):
    assert len(read_all(bag)) == len(read_all(bag / "bag.mcap")) == 18


def test_no_topics_are_no_messages(bag):
    with open_bag(bag) as opened:
        assert list(opened.messages([])) == list(opened.messages(["/none"])) == []


def test_a_bag_whose_file_is_gone_is_refused(bag):
    (bag / "bag.mcap").unlink()
    with pytest.raises(ValueError, match="no .mcap and no .db3 file"):
        BagReader(bag)


def test_garbage_in_place_of_a_file_is_refused(bag):
    (bag / "bag.mcap").write_bytes(b"\x00garbage: [" * 100)
    with pytest.raises(ValueError, match="damaged"):
        BagReader(bag)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no bag")
    with pytest.raises(ValueError, match="unknown kind"):
        BagReader(tmp_path / "notes.txt")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_flipped_bytes_end_in_frames_or_a_value_error(frame, write_frames, tmp_path, storage):
    source = write_frames([frame(index) for index in range(2)], storage=storage)
    (name,) = (path.name for path in source.iterdir() if path.name != "metadata.yaml")
    whole, target = (source / name).read_bytes(), tmp_path / "flipped"
    shutil.copytree(source, target)
    generator = random.Random(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(generator.randint(1, 30)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        (target / name).write_bytes(damaged)
        try:
            frames = list(BagReader(target).frames())
        except ValueError:
            continue
        assert len(frames) <= 2


def test_messages_are_read_by_the_standard_definitions_whatever_the_bag_says(bag):
    file = bag / "bag.mcap"
    file.write_bytes(file.read_bytes().replace(b"uint32 point_step", b"uint32 paint_step"))
    assert len(list(BagReader(bag).frames())) == 4


def test_a_topic_of_two_types_is_refused():
    connections = [Connection("/a", kind, 1) for kind in (topics.CLOUD, topics.IMAGE)]
    with pytest.raises(ValueError, match="/a holds both .*PointCloud2 and .*Image"):
        Bag(Path("bag"), {Path("bag"): SimpleNamespace(connections=connections, damage=None)})


@pytest.mark.parametrize("change", ["messages SET data = 'text'", "messages SET data = NULL",
                                    "messages SET timestamp = 'now'", "topics SET name = X'00'"])
def test_cells_of_another_type_are_refused(frame, write_frames, change):
    bag = write_frames([frame(0)], storage="sqlite3") / "bag.db3"
    with sqlite3.connect(bag) as database:
        if "NULL" in change:  # which the schema forbids, but a damaged file has
            database.execute("PRAGMA writable_schema = ON")
            database.execute("UPDATE sqlite_schema SET sql = replace(sql, 'data BLOB NOT NULL', 'data BLOB')")
    with sqlite3.connect(bag) as database:
        database.execute(f"UPDATE {change}")
    with pytest.raises(ValueError, match="damaged"):
        read_all(bag)


def test_two_topics_of_one_number_are_damage(tmp_path):
    """As in a database with a damaged key: whose the messages are is unknown."""
    with sqlite3.connect(tmp_path / "bag.db3") as database:
        database.executescript(
            "CREATE TABLE topics (id INTEGER, name TEXT, type TEXT, serialization_format TEXT);"
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB);"
            "INSERT INTO topics VALUES (1, '/tf_static', 'tf2_msgs/msg/TFMessage', 'cdr');"
            "INSERT INTO topics VALUES (1, '/lidar/points', 'sensor_msgs/msg/PointCloud2', 'cdr');"
        )
    with pytest.raises(ValueError, match="damaged .*/lidar/points has the same number as /tf_static"):
        read_all(tmp_path / "bag.db3")
