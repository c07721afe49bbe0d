"""Bags: damaged files, and sound files with damaged messages."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from tttkd_ros.bags import storage, topics
from tttkd_ros.bags.connections import Connection
from tttkd_ros.bags.labelled import read_labelled
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.bags.writer import LATCHED, METADATA_VERSION
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.demo.scores import POINTS, score_live
from tttkd_ros.messages.definitions import standard_types

from .conftest import START, check_frame, fuzz
from .strategies import mutated_bytes

COMPRESSION = {
    "zstd file": CompressionMode.FILE, "zstd messages": CompressionMode.MESSAGE, "zstd chunks": CompressionMode.STORAGE,
    "none": CompressionMode.NONE,
}  # fmt: skip
REPORT = {"accepted": "true", "reason": "", "loss": "0.5", "seconds": "0.1", "stride": "5", "learning_rate": "1"}


def read_frames(path, drive) -> None:
    for frame in BagReader(path).frames():
        check_frame(frame)


def read_messages(path, drive) -> None:
    with open_bag(path) as bag:
        for record in bag.messages(bag.types):
            bag.decode(record)


def read_predictions(path, drive) -> None:
    for prediction in read_labelled(path):
        assert len(prediction.points) == len(prediction.labels) == len(prediction.confidence)


def score_predictions(path, drive) -> None:
    score_live("run", drive, path, [frame.stamp for frame in drive], OUTDOOR)


def play(path, drive) -> None:
    from tttkd_ros.tools.player import playable

    with open_bag(path) as bag:
        classes, _ = playable(bag, ())
        for record in bag.messages(classes):
            assert isinstance(record.data, bytes)
            assert classes[record.topic] is not None


@pytest.fixture(scope="module")
def all_bags(drive, bags, record_answers, tmp_path_factory):
    """Bags by name: of the drive, of two of its topics by compression, and of predictions with reports of steps."""
    folder = tmp_path_factory.mktemp("all_bags")
    reports = [(frame.stamp, REPORT) for frame in drive]
    made = bags | {"predictions": record_answers(folder / "predictions", drive, reports=reports)}
    for name, mode in COMPRESSION.items():
        made[name] = folder / name
        writer = Writer(made[name], version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with open_bag(bags["mcap"]) as bag, writer:
            for topic, qos in ((topics.POINTS_TOPIC, []), (topics.STATIC_TOPIC, [LATCHED])):
                connection = writer.add_connection(
                    topic, bag.types[topic], typestore=standard_types(), offered_qos_profiles=qos
                )
                for record in bag.messages([topic]):
                    writer.write(connection, record.time, record.data)
    return made


@pytest.mark.parametrize(
    ("name", "read"),
    [("mcap", read_frames), ("sqlite3", read_frames), ("zstd chunks", read_messages), ("mcap", play),
     ("predictions", read_predictions), ("predictions", score_predictions)],
)  # fmt: skip
def test_damaged_files(fuzz_files, all_bags, drive, name, read):
    if read is play:
        pytest.importorskip("rclpy")
    (path,) = (path for path in all_bags[name].iterdir() if path.name != "metadata.yaml")
    fuzz_files({path.name: path.read_bytes()}, lambda folder: read(folder / path.name, drive))


@pytest.mark.parametrize("name", ["zstd file", "zstd messages", "none"])
def test_damaged_folders_with_metadata(fuzz_files, all_bags, drive, name):
    files = {path.name: path.read_bytes() for path in all_bags[name].iterdir()}
    fuzz_files(files, lambda folder: read_messages(folder, drive))


@pytest.mark.parametrize("topic", [topics.STATIC_TOPIC, topics.MOVING_TOPIC])
def test_damaged_messages(attempt, bags, drive, monkeypatch, topic):
    """The camera's transform is in /tf_static or in /tf."""
    with open_bag(bags["mcap"]) as bag:
        records = [r._replace(topic=topic) if r.topic == topics.STATIC_TOPIC else r for r in bag.messages(bag.types)]
    connections = {record.topic: Connection(record.topic, record.type) for record in records}
    for record in records:
        connections[record.topic].msgcount += 1

    @fuzz
    def check(data):
        changed = data.draw(st.sets(st.integers(0, len(records) - 1), max_size=3))
        contents = [data.draw(mutated_bytes(r.data)) if n in changed else r.data for n, r in enumerate(records)]

        def messages(wanted):
            for record, content in zip(records, contents, strict=True):
                if connections[record.topic] in wanted:
                    yield connections[record.topic], record.time, content

        source = SimpleNamespace(connections=list(connections.values()), messages=messages, damage=None, start=0)
        monkeypatch.setattr(storage, "open_files", lambda path: nullcontext(({path: source}, [])))
        with attempt:
            read_frames(bags["mcap"], drive)

    check()


def test_damaged_send_times(fuzz_files):
    pytest.importorskip("rclpy")
    from tttkd_ros.demo.live import LiveRun

    text = f"topic,bag_time,sent\r\n{POINTS},{START},{START + 7}\r\n/tf,{START},{START + 8}\r\n"
    fuzz_files({"sent.csv": text}, lambda folder: LiveRun(folder, folder / "sent.csv", folder).sent_times())
