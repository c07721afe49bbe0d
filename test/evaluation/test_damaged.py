"""Bags that are not as they should be, evaluated: a clear message, and figures where there can be some."""

import json

import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tttkd_ros.bags.storage import open_bag
from tttkd_ros.bags.topics import CLOUD

SCAN = "velodyne_msgs/msg/VelodyneScan"
SECRET = "acme_msgs/msg/Secret"


def write(path, *topics, source=None):
    """A bag with one message of unknown content on each topic (name, type), or none on a topic of a known type; with
    what the bag `source` holds."""
    types = get_typestore(Stores.ROS2_HUMBLE)
    for kind in (SCAN, SECRET):
        types.register(get_types_from_msg("byte[] it", kind))
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in topics:
            connection = writer.add_connection(topic, kind, typestore=types)
            if kind != CLOUD:
                writer.write(connection, 10**9, bytes(8))
        if source is not None:
            with open_bag(source) as bag:
                connections = {topic: writer.add_connection(topic, kind, typestore=types)
                               for topic, kind in bag.types.items()}  # fmt: skip
                for record in bag.messages(bag.types):
                    writer.write(connections[record.topic], record.time, record.data)
    return path


@pytest.mark.parametrize(
    ("topics", "message"),
    [([], "the bag has no topics: nothing was recorded"),
     ([("/lidar/points", CLOUD)], "holds no message on /lidar/points"),
     ([("/velodyne_packets", SCAN)], "only packets or compressed clouds: /velodyne_packets .*play them to"),
     ([("/secret", SECRET)], f"no topic could be the sweeps: .*the bag has /secret .{SECRET}.")],
)  # fmt: skip
def test_the_error_for_a_bag_without_sweeps_says_what_is_missing(run, tmp_path, topics, message):
    with pytest.raises(ValueError, match=message):
        run(write(tmp_path / "bag", *topics))


def test_unknown_types_and_packets_beside_the_sweeps_are_ignored(run, tiny, tmp_path):
    bag = write(tmp_path / "bag", ("/secret", SECRET), ("/packets", SCAN), source=tiny.bag(tmp_path / "source"))
    figures = []
    for path in (bag, tmp_path / "source"):
        run(path, json_file=tmp_path / "out.json", method=("ttt-kd-o",))
        figures.append(json.loads((tmp_path / "out.json").read_text())["results"])
    assert figures[0] == figures[1]
