"""Bags: their files, and sound files with damaged messages in them."""

from __future__ import annotations

import csv
import io
import json
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from ruamel.yaml import YAML

from tttkd_ros.bags import storage, topics
from tttkd_ros.bags.connections import Connection
from tttkd_ros.bags.labelled import read_labelled
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import Record, open_bag
from tttkd_ros.bags.writer import LATCHED, METADATA_VERSION
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.demo.live_scores import ADAPTATION, LABELLED, POINTS, score_live
from tttkd_ros.evaluation.live_recordings import REPORTS
from tttkd_ros.messages.definitions import standard_types

from . import inputs
from .conftest import START


def take_messages(path) -> None:
    with open_bag(path) as bag:
        for record in bag.messages(bag.types):
            bag.decode(record)


def take_bag(path) -> None:
    source = BagReader(path)
    for frame in source.frames():
        assert frame.points.shape == (len(frame.points), 3)
        for values in (frame.intensity, frame.labels):
            assert values is None or values.shape == (len(frame.points),)
        for view in frame.views:
            assert view.image.shape == (view.camera.height, view.camera.width, 3)
            assert np.isfinite(view.camera_from_lidar).all()


@pytest.fixture(scope="module")
def small(bags, tmp_path_factory):
    """`small(mode)`: a bag of two topics, its messages, chunks or file in zstd, or none of these."""

    def write(mode: CompressionMode):
        path = tmp_path_factory.mktemp("small") / "bag"
        writer = Writer(path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with open_bag(bags["mcap"]) as bag, writer:
            for topic in (topics.POINTS_TOPIC, topics.STATIC_TOPIC):
                kind = bag.types[topic]
                qos = [LATCHED] if topic == topics.STATIC_TOPIC else []
                connection = writer.add_connection(
                    topic, kind, typestore=standard_types(), offered_qos_profiles=qos
                )
                for record in bag.messages([topic]):
                    writer.write(connection, record.time, record.data)
        return path

    return write


@pytest.fixture(scope="module")
def recording(drive, bags, records, tmp_path_factory):
    """What the demo records: the truth as the node's answers, and reports on its steps."""
    path = tmp_path_factory.mktemp("recordings") / "bag"
    types = standard_types()
    make = types.types
    stamp = make["builtin_interfaces/msg/Time"](sec=0, nanosec=0)
    told = {"accepted": "true", "reason": "", "loss": "0.5", "seconds": "0.1", "stride": "5", "learning_rate": "1"}
    pairs = [make["diagnostic_msgs/msg/KeyValue"](key=key, value=value) for key, value in told.items()]
    status = make["diagnostic_msgs/msg/DiagnosticStatus"](level=0, name="", message="", hardware_id="", values=pairs)
    report = make[REPORTS](header=make["std_msgs/msg/Header"](stamp=stamp, frame_id=""), status=[status])
    with Writer(path, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP) as writer, open_bag(
        bags["mcap"]
    ) as bag:
        answers = writer.add_connection(LABELLED, topics.CLOUD, typestore=types)
        reports = writer.add_connection(ADAPTATION, REPORTS, typestore=types)
        for record in bag.messages([topics.TRUTH_TOPIC]):
            writer.write(answers, record.time, record.data)
            writer.write(reports, record.time, types.serialize_cdr(report, REPORTS))
    return path


def the_file(bag):
    (path,) = (path for path in bag.iterdir() if path.name != "metadata.yaml")
    return path


def test_mcap_files(fuzz, folder, bags, small):
    path = folder / "bag.mcap"

    def take(content: bytes) -> None:
        path.write_bytes(content)
        take_bag(path)

    wholes = [the_file(bag).read_bytes() for bag in (bags["mcap"], small(CompressionMode.STORAGE))]
    fuzz(inputs.damaged(*wholes), take)


def test_sqlite_files(fuzz, folder, bags):
    path = folder / "bag.db3"

    def take(content: bytes) -> None:
        path.write_bytes(content)
        take_bag(path)

    fuzz(inputs.damaged(the_file(bags["sqlite3"]).read_bytes()), take)


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE], ids=["file", "message"])
def test_compressed_files(fuzz, folder, small, mode):
    bag = shutil.copytree(small(mode), folder / "bag")
    file = the_file(bag)

    def take(content: bytes) -> None:
        file.write_bytes(content)
        take_messages(bag)

    fuzz(inputs.damaged(file.read_bytes()), take)


@pytest.mark.parametrize("by", ["text", "document"])
def test_metadata(fuzz, folder, small, by):
    bag = shutil.copytree(small(CompressionMode.NONE), folder / "bag")
    metadata = bag / "metadata.yaml"
    change = inputs.changed(YAML(typ="safe").load(metadata.read_text()))
    damage = inputs.damaged(metadata.read_bytes())

    def take(content: bytes) -> None:
        metadata.write_bytes(content)
        take_messages(bag)

    fuzz(damage if by == "text" else lambda tape: json.dumps(change(tape)).encode(), take)


@pytest.mark.parametrize("by", ["text", "document"])
def test_metadata_of_bags_cut_short(fuzz, folder, small, by):
    bag = shutil.copytree(small(CompressionMode.NONE), folder / "bag")
    metadata, file = bag / "metadata.yaml", the_file(bag)
    whole = file.read_bytes()
    file.write_bytes(whole[: whole.index(b"\x0f\x04" + bytes(7))])  # before the mark that all data are written
    text = "rosbag2_bagfile_information: {message_count: 4, version: 5}"
    change = inputs.changed(YAML(typ="safe").load(text))

    def take(content: bytes) -> None:
        metadata.write_bytes(content)
        try:
            with open_bag(bag) as opened:
                assert opened.damage
        except ValueError:
            pytest.fail("the metadata are not needed for what is left")

    fuzz(inputs.damaged(text.encode()) if by == "text" else lambda tape: json.dumps(change(tape)).encode(), take)


def test_bags_of_damaged_messages(fuzz, bags, monkeypatch):
    """Of a camera whose place /tf_static tells, or /tf."""
    with open_bag(bags["mcap"]) as bag:
        fixed = list(bag.messages(bag.types))
    panning = [r._replace(topic=topics.MOVING_TOPIC) if r.topic == topics.STATIC_TOPIC else r for r in fixed]
    damage = [inputs.damaged(record.data) for record in fixed]

    def messages(tape) -> list[Record]:
        made = list(tape.choose([fixed, panning]))
        while tape:
            at = tape.below(len(made))
            made[at] = made[at]._replace(data=damage[at](tape.part(12)))
        return made

    def take(made: list[Record]) -> None:
        connections = {r.topic: Connection(r.topic, r.type) for r in made}
        for record in made:
            connections[record.topic].msgcount += 1

        def read(wanted):
            for record in made:
                if connections[record.topic] in wanted:
                    yield connections[record.topic], record.time, record.data

        source = SimpleNamespace(connections=list(connections.values()), messages=read, damage=None, start=0)
        monkeypatch.setattr(storage, "open_files", lambda path: nullcontext(({path: source}, [])))
        take_bag(bags["mcap"])

    fuzz(messages, take)


def test_recorded_predictions(fuzz, folder, recording):
    path = folder / "bag.mcap"

    def take(content: bytes) -> None:
        path.write_bytes(content)
        for answer in read_labelled(path):
            assert len(answer.points) == len(answer.labels) == len(answer.confidence)

    fuzz(inputs.damaged(the_file(recording).read_bytes()), take)


def test_recordings_of_the_demo(fuzz, folder, recording, drive):
    path = folder / "bag.mcap"

    def take(content: bytes) -> None:
        path.write_bytes(content)
        score_live("run", drive, path, [frame.stamp for frame in drive], OUTDOOR)

    fuzz(inputs.damaged(the_file(recording).read_bytes()), take)


def test_bags_to_be_played(fuzz, folder, bags):
    pytest.importorskip("rclpy")
    from tttkd_ros.tools.player import playable

    path = folder / "bag.mcap"

    def take(content: bytes) -> None:
        path.write_bytes(content)
        with open_bag(path) as bag:
            classes, _ = playable(bag, ())
            for record in bag.messages(classes):
                assert isinstance(record.data, bytes) and classes[record.topic] is not None

    fuzz(inputs.damaged(the_file(bags["mcap"]).read_bytes()), take)


def test_times_of_sending(fuzz, folder):
    pytest.importorskip("rclpy")
    from tttkd_ros.demo.live import LiveRun

    path = folder / "sent.csv"
    with io.StringIO(newline="") as text:
        rows = [(POINTS, START, START + 7), ("/tf", START, START + 8), (POINTS, START + 9, START + 9)]
        csv.writer(text).writerows([("topic", "bag_time", "sent"), *rows])
        whole = text.getvalue().encode()

    def take(content: bytes) -> None:
        path.write_bytes(content)
        LiveRun(folder, path, folder).sent_times()

    fuzz(inputs.damaged(whole), take)
