"""The player and the recorder as their own processes, over DDS."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tttkd_ros.bags.storage import open_bag
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.messages.definitions import message_class

pytest.importorskip("rclpy")

from tttkd_ros.tools.player import playable  # noqa: E402
from tttkd_ros.tools.recorder import record  # noqa: E402

TYPES = get_typestore(Stores.LATEST)
PERIOD = 50_000_000  # nanoseconds between clouds
CLOUDS = 20
STRING = "std_msgs/msg/String"


def header(stamp: int):
    time_type, header_type = TYPES.types["builtin_interfaces/msg/Time"], TYPES.types["std_msgs/msg/Header"]
    return header_type(stamp=time_type(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="lidar")


def cloud(stamp: int):
    field = TYPES.types["sensor_msgs/msg/PointField"]
    fields = [field(name=name, offset=4 * place, datatype=7, count=1) for place, name in enumerate("xyz")]
    data = np.random.default_rng(stamp).integers(0, 255, 12 * 30_000, np.uint8)
    return TYPES.types["sensor_msgs/msg/PointCloud2"](
        header=header(stamp), height=1, width=30_000, fields=fields, is_bigendian=False, point_step=12,
        row_step=12 * 30_000, data=data, is_dense=True,
    )


@pytest.fixture
def bag(tmp_path):
    """A second of clouds beside a truth topic and a message type that rclpy from PyPI lacks."""
    path = tmp_path / "bag"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        kinds = {"/points": "sensor_msgs/msg/PointCloud2", "/truth/points": "sensor_msgs/msg/PointCloud2",
                 "/tf_static": "tf2_msgs/msg/TFMessage"}
        topics = {topic: writer.add_connection(topic, kind, typestore=TYPES) for topic, kind in kinds.items()}
        transforms = TYPES.types["tf2_msgs/msg/TFMessage"](transforms=[])
        writer.write(topics["/tf_static"], 10**9, TYPES.serialize_cdr(transforms, kinds["/tf_static"]))
        for index in range(CLOUDS):
            stamp = 10**9 + index * PERIOD
            data = TYPES.serialize_cdr(cloud(stamp), kinds["/points"])
            for topic in ("/points", "/truth/points"):
                writer.write(topics[topic], stamp, data)
    return path


@pytest.fixture
def start(tmp_path):
    """Start a module of tttkd_ros.tools as a process; it is killed afterwards if it still runs."""
    running = []

    def starter(module: str, *arguments) -> subprocess.Popen:
        command = [sys.executable, "-m", f"tttkd_ros.tools.{module}", *map(str, arguments)]
        running.append(subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        return running[-1]

    yield starter
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def topics(bag) -> set[str]:
    with AnyReader([bag]) as reader:
        return set(reader.topics)


def contents(bag, topic):
    with AnyReader([bag]) as reader:
        wanted = [connection for connection in reader.connections if connection.topic == topic]
        return [(stamp, bytes(data)) for _, stamp, data in reader.messages(wanted)]


def finish(process: subprocess.Popen, code: int = 0) -> str:
    """Wait for a process that is expected to end with this code; returns its output."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "Traceback" not in output
    return output


def play_counts(bag) -> dict[str, int]:
    """How many messages of each topic would be played."""
    with open_bag(bag) as opened:
        classes, _ = playable(opened, ())
        played = [record.topic for record in opened.messages(classes)]
    return {topic: played.count(topic) for topic in classes}


@pytest.mark.parametrize(
    "ending", [("--count", CLOUDS), ("--follow", "/points", "--linger", "0.2")], ids=["count", "follow"]
)
def test_every_cloud_arrives_unchanged_in_order_and_on_time(bag, tmp_path, start, ending):
    recorder = start("recorder", tmp_path / "out", "/points", *ending)
    finish(start("player", bag, "--wait-for-subscribers", "--topics", "/points", "--sent-file", tmp_path / "sent.csv"))
    assert f"{CLOUDS} x /points" in finish(recorder)
    sent, received = contents(bag, "/points"), contents(tmp_path / "out", "/points")
    assert [data for _, data in received] == [data for _, data in sent]
    assert np.median(np.diff([stamp for stamp, _ in received])) == pytest.approx(PERIOD, rel=0.2)
    with (tmp_path / "sent.csv").open() as file:
        log = list(csv.DictReader(file))
    assert [int(row["bag_time"]) for row in log] == [stamp for stamp, _ in sent]
    assert all(int(row["sent"]) <= stamp for row, (stamp, _) in zip(log, received, strict=True))


@pytest.mark.parametrize("qos", ["", [], "- {reliability: 77}", [{"reliability": "best_available"}], None, 5])
def test_the_qos_of_the_metadata_does_not_matter(bag, qos):
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    for topic in metadata["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = qos
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    assert play_counts(bag)["/points"] == CLOUDS


def test_a_bag_without_metadata_is_played(bag):
    (bag / "metadata.yaml").unlink()
    assert play_counts(bag)["/points"] == CLOUDS


def write(path, *topics):
    """The same message on each topic (name, type, number of messages), 10^9 seconds apart."""
    types = get_typestore(Stores.LATEST)
    types.register(get_types_from_msg("byte[] it", "acme_msgs/msg/Secret"))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind, number in topics:
            connection = writer.add_connection(topic, kind, typestore=types)
            for index in range(number):
                writer.write(connection, index * 10**18, TYPES.serialize_cdr(TYPES.types[STRING]("a"), STRING))
    return path


@pytest.mark.parametrize(
    ("topics", "chosen", "message"),
    [([], (), "nothing to play in bag .* .it has no topics."),
     ([("/a", STRING, 0), ("/b", STRING, 0)], (), "/a: the bag holds no message on it; /b: the bag holds no message"),
     ([("/x", "acme_msgs/msg/Secret", 1)], (), "/x: this ROS has no acme_msgs/msg/Secret: install .* acme_msgs"),
     ([("/truth/a", STRING, 1)], (), "/truth/a: the truth is played only if it is named .--topics /truth/a."),
     ([("/a", STRING, 1), ("/b", STRING, 0)], ("/b",), "nothing to play .*/b: the bag holds no message"),
     ([("/a", STRING, 1)], ("/lidar",), "no topic /lidar; it has /a")],
)  # fmt: skip
def test_nothing_to_play_is_an_error_with_the_reason(tmp_path, topics, chosen, message):
    with open_bag(write(tmp_path / "bag", *topics)) as bag, pytest.raises(ValueError, match=message):
        playable(bag, chosen)


def test_every_topic_that_is_left_out_is_reported_with_the_reason(tmp_path, start):
    bag = write(tmp_path / "bag", ("/a", STRING, 2), ("/b", STRING, 0), ("/truth/c", STRING, 1),
                ("/d", "acme_msgs/msg/Secret", 1))
    player = start("player", bag)
    assert [player.stdout.readline().strip() for _ in range(4)] == [
        "left out /b: the bag holds no message on it",
        "left out /truth/c: the truth is played only if it is named (--topics /truth/c)",
        "left out /d: this ROS has no acme_msgs/msg/Secret: install the package acme_msgs",
        "waiting 1000000000 s for /a, as recorded: --rate plays faster",
    ]
    player.send_signal(signal.SIGINT)
    assert "stopped after 1 messages" in finish(player)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["BAG", "--rate", "0"], "player: rate is 0.0"),
     (["BAG", "--topics", "/points", "--wait-for-subscribers", "--wait-timeout", "0.2"],
      "player: nobody subscribed to /points")],
)
def test_wrong_arguments_are_an_error_in_one_line(bag, start, arguments, message):
    player = start("player", *[str(bag) if argument == "BAG" else argument for argument in arguments])
    assert message in finish(player, 1).splitlines()[0]


def test_a_damaged_bag_is_an_error_in_one_line(bag, start):
    (bag / "bag.mcap").write_bytes(b"garbage")
    assert "damaged or cut short" in finish(start("player", bag), 1)


def test_a_topic_that_ros_does_not_allow_is_an_error_in_one_line(tmp_path, start):
    with BagWriter(tmp_path / "odd") as writer:
        writer.write("/not allowed", "sensor_msgs/msg/PointCloud2", cloud(0), 0)
    assert "a topic that ROS does not allow" in finish(start("player", tmp_path / "odd"), 1)


@pytest.mark.parametrize("name", ["", "PointCloud2", "sensor_msgs/PointCloud2", "/msg/PointCloud2", "os/msg/Path",
                                  "sensor_msgs/msg/__name__", "sensor_msgs.msg/msg/Image", "a\0/msg/B", "../msg/X"])
def test_an_invalid_type_name_has_no_class(name):
    assert message_class(name) is None


def test_a_recorder_does_not_overwrite(bag):
    with pytest.raises(ValueError, match="exists: choose another name"):
        record(bag, ("/points",))


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("mine")], ids=["a folder", "a file"])
def test_only_a_bag_is_replaced(make, tmp_path):
    make(tmp_path / "mine")
    (before,) = tmp_path.iterdir()
    with pytest.raises(ValueError, match="mine is no bag .no metadata.yaml in it. and is not replaced"):
        record(before, ("/points",), overwrite=True)
    assert list(tmp_path.iterdir()) == [before]


def test_a_recorder_replaces_a_bag_once_the_new_one_is_complete(bag, tmp_path, start):
    shutil.copytree(bag, tmp_path / "out")
    recorder = start("recorder", tmp_path / "out", "/points", "--overwrite", "--count", CLOUDS)
    start("player", bag, "--wait-for-subscribers", "--topics", "/points")
    with open_bag(tmp_path / "out") as old:
        assert "/truth/points" in old.types
    finish(recorder)
    assert len(contents(tmp_path / "out", "/points")) == CLOUDS
    with open_bag(tmp_path / "out") as new:
        assert new.types.keys() == {"/points"}
    assert {path.name for path in tmp_path.iterdir()} == {"bag", "out"}


def test_a_recorder_that_received_nothing_replaces_nothing(bag, tmp_path, start):
    recorder = start("recorder", bag, "/nobody", "--overwrite")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".bag-*")):  # until it handles interrupts
        assert time.monotonic() < deadline
        time.sleep(0.05)
    recorder.send_signal(signal.SIGINT)
    assert f"nothing was recorded: {bag} stays as it was" in finish(recorder, 1)
    assert len(contents(bag, "/points")) == CLOUDS
    assert list(tmp_path.iterdir()) == [bag]


def test_an_interrupted_recorder_completes_its_bag(bag, tmp_path, start):
    recorder = start("recorder", tmp_path / "out", "/points")
    finish(start("player", bag, "--wait-for-subscribers", "--topics", "/points", "--rate", "10"))
    time.sleep(0.3)
    recorder.send_signal(signal.SIGINT)
    assert f"{CLOUDS} x /points" in finish(recorder)
    assert len(contents(tmp_path / "out", "/points")) == CLOUDS
    assert {path.name for path in tmp_path.iterdir()} == {"bag", "out"}
