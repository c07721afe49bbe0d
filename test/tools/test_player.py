"""The player and the recorder as their own processes, over DDS."""

from __future__ import annotations

import csv
import re
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

from tttkd_ros.bags.writer import BagWriter

pytest.importorskip("rclpy")

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
    """Start a module of tttkd_ros.ros as a process; end what is left afterwards."""
    running = []

    def starter(module: str, *arguments) -> subprocess.Popen:
        command = [sys.executable, "-m", f"tttkd_ros.tools.{module}", *map(str, arguments)]
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        running.append(process)
        return process

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


def test_every_cloud_arrives_unchanged_in_order_and_on_time(bag, tmp_path, start):
    recorder = start("recorder", tmp_path / "out", "/points", "--count", CLOUDS)
    player = start("player", bag, "--wait-for-subscribers", "--topics", "/points", "--sent-file", tmp_path / "sent.csv")
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 0, output
    output, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 0, output
    sent, received = contents(bag, "/points"), contents(tmp_path / "out", "/points")
    assert [data for _, data in received] == [data for _, data in sent]
    arrivals = np.diff([stamp for stamp, _ in received])
    assert np.median(arrivals) == pytest.approx(PERIOD, rel=0.2)
    with (tmp_path / "sent.csv").open() as file:
        log = list(csv.DictReader(file))
    assert [int(row["bag_time"]) for row in log] == [stamp for stamp, _ in sent]
    assert all(int(row["sent"]) <= stamp for row, (stamp, _) in zip(log, received, strict=True))


def test_truth_stays_home_and_lacking_types_are_named(bag, start):
    from tttkd_ros.tools.player import message_class

    player = start("player", bag, "--rate", "20")
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 0
    if message_class("tf2_msgs/msg/TFMessage") is None:
        assert "left out /tf_static: this ROS has no tf2_msgs/msg/TFMessage" in output
        assert f"played {CLOUDS} messages" in output
    else:
        assert f"played {CLOUDS + 1} messages" in output


@pytest.mark.parametrize("qos", ["", [], "- {reliability: 77}", [{"reliability": "best_available"}], None, 5])
def test_the_qos_of_the_metadata_does_not_matter(bag, start, qos):
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    for topic in metadata["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = qos
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    output, _ = start("player", bag, "--rate", "100", "--topics", "/points").communicate(timeout=30)
    assert f"played {CLOUDS} messages" in output


def test_a_bag_without_metadata_is_played(bag, start):
    (bag / "metadata.yaml").unlink()
    output, _ = start("player", bag, "--rate", "100", "--topics", "/points").communicate(timeout=30)
    assert f"played {CLOUDS} messages" in output


def write(path, *topics):
    """One empty message on each topic (name, type, number of messages)."""
    types = get_typestore(Stores.LATEST)
    types.register(get_types_from_msg("byte[] it", "acme_msgs/msg/Secret"))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind, number in topics:
            connection = writer.add_connection(topic, kind, typestore=types)
            for index in range(number):
                writer.write(connection, index * 10**18, TYPES.serialize_cdr(TYPES.types[STRING]("a"), STRING))
    return path


@pytest.mark.parametrize(
    ("topics", "arguments", "complaint"),
    [([], [], "nothing to play in bag .* .it has no topics."),
     ([("/a", STRING, 0), ("/b", STRING, 0)], [], "/a: the bag holds no message on it; /b: the bag holds no message"),
     ([("/x", "acme_msgs/msg/Secret", 1)], [], "/x: this ROS has no acme_msgs/msg/Secret: install .* acme_msgs"),
     ([("/truth/a", STRING, 1)], [], "/truth/a: the truth is played only if it is asked for .--topics /truth/a."),
     ([("/a", STRING, 1), ("/b", STRING, 0)], ["--topics", "/b"], "nothing to play .*/b: the bag holds no message")],
)  # fmt: skip
def test_nothing_to_play_is_an_error_that_tells_why(tmp_path, start, topics, arguments, complaint):
    player = start("player", write(tmp_path / "bag", *topics), *arguments)
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 1
    assert re.search(complaint, output) and output.count("\n") == 1


def test_every_topic_that_is_left_out_is_told_with_the_reason(tmp_path, start):
    bag = write(tmp_path / "bag", ("/a", STRING, 1), ("/b", STRING, 0), ("/truth/c", STRING, 1),
                ("/d", "acme_msgs/msg/Secret", 1))
    player = start("player", bag)
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 0
    assert output.splitlines() == [
        "left out /b: the bag holds no message on it",
        "left out /truth/c: the truth is played only if it is asked for (--topics /truth/c)",
        "left out /d: this ROS has no acme_msgs/msg/Secret: install the package acme_msgs",
        "played 1 messages",
    ]


def test_a_long_gap_is_told(tmp_path, start):
    player = start("player", write(tmp_path / "bag", ("/a", STRING, 2)))
    assert "waiting 1000000000 s for /a, as recorded" in player.stdout.readline()
    player.send_signal(signal.SIGINT)
    assert "stopped after 1 messages" in player.communicate(timeout=30)[0]


def test_nobody_subscribing_is_an_error_that_names_the_topic(bag, start):
    player = start("player", bag, "--topics", "/points", "--wait-for-subscribers", "--wait-timeout", "0.2")
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 1
    assert "nobody subscribed to /points" in output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["missing_bag"], "no bag at missing_bag"), (["BAG", "--rate", "0"], "rate is 0.0"),
     (["BAG", "--topics", "/lidar"], "no topic /lidar; it has /points")],
)
def test_wrong_arguments_are_answered(bag, start, arguments, complaint):
    player = start("player", *[str(bag) if argument == "BAG" else argument for argument in arguments])
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 1
    assert complaint in output


def test_a_damaged_bag_is_answered(bag, start):
    (bag / "bag.mcap").write_bytes(b"garbage")
    player = start("player", bag)
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 1
    assert "damaged or cut short" in output and "Traceback" not in output


def test_a_topic_that_ros_does_not_allow_is_answered(tmp_path, start):
    with BagWriter(tmp_path / "odd") as writer:
        writer.write("/not allowed", "sensor_msgs/msg/PointCloud2", cloud(0), 0)
    player = start("player", tmp_path / "odd")
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 1
    assert "a topic that ROS does not allow" in output and "Traceback" not in output


@pytest.mark.parametrize("name", ["", "PointCloud2", "sensor_msgs/PointCloud2", "/msg/PointCloud2", "os/msg/Path",
                                  "sensor_msgs/msg/__name__", "sensor_msgs.msg/msg/Image", "a\0/msg/B", "../msg/X"])
def test_a_type_that_is_none_has_no_class(name):
    from tttkd_ros.tools.player import message_class

    assert message_class(name) is None


def test_recorder_ends_on_interrupt_with_a_whole_bag(bag, tmp_path, start):
    recorder = start("recorder", tmp_path / "out", "/points")
    start("player", bag, "--wait-for-subscribers", "--topics", "/points", "--rate", "10").communicate(timeout=30)
    time.sleep(0.3)
    recorder.send_signal(signal.SIGINT)
    output, _ = recorder.communicate(timeout=10)
    assert recorder.returncode == 0
    assert f"{CLOUDS} x /points" in output
    assert len(contents(tmp_path / "out", "/points")) == CLOUDS


def test_recorder_does_not_overwrite_unasked(bag, start):
    recorder = start("recorder", bag, "/points")
    output, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 1
    assert "exists" in output


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("mine")], ids=["a folder", "a file"])
def test_recorder_replaces_nothing_but_a_bag(make, tmp_path, start):
    make(tmp_path / "mine")
    (before,) = tmp_path.iterdir()
    recorder = start("recorder", before, "/points", "--overwrite")
    output, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 1
    assert f"{before} is no bag (no metadata.yaml in it) and is not replaced" in output
    assert list(tmp_path.iterdir()) == [before]


def test_recorder_replaces_a_bag_once_the_new_one_is_whole(bag, tmp_path, start):
    shutil.copytree(bag, tmp_path / "out")
    recorder = start("recorder", tmp_path / "out", "/points", "--overwrite", "--count", CLOUDS)
    start("player", bag, "--wait-for-subscribers", "--topics", "/points")
    assert "/truth/points" in topics(tmp_path / "out")  # still the old one
    output, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 0, output
    assert len(contents(tmp_path / "out", "/points")) == CLOUDS
    assert topics(tmp_path / "out") == {"/points"}
    assert {path.name for path in tmp_path.iterdir()} == {"bag", "out"}


def test_recorder_that_heard_nothing_replaces_nothing(bag, tmp_path, start):
    recorder = start("recorder", bag, "/nobody", "--overwrite")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".bag-*")):  # until it listens to interrupts
        assert time.monotonic() < deadline
        time.sleep(0.05)
    recorder.send_signal(signal.SIGINT)
    output, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 1
    assert f"nothing was recorded: {bag} stays as it was" in output
    assert len(contents(bag, "/points")) == CLOUDS
    assert list(tmp_path.iterdir()) == [bag]


def test_a_recording_ends_with_what_it_follows(bag, tmp_path, start):
    recorder = start("recorder", tmp_path / "out", "/points", "--follow", "/points", "--linger", "0.2")
    player = start("player", bag, "--wait-for-subscribers", "--topics", "/points")
    output, _ = player.communicate(timeout=30)
    assert player.returncode == 0, output
    output, _ = recorder.communicate(timeout=30)
    assert recorder.returncode == 0, output
    assert f"{CLOUDS} x /points" in output
