"""Livox's CustomMsg, as rosbags serialises it from the driver's definition."""

from __future__ import annotations

import numpy as np
import pytest
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.messages.livox import decode_livox, is_livox
from tttkd_ros.messages.point_cloud import decode_cloud, decode_field
from tttkd_ros.messages.point_times import point_times
from tttkd_ros.messages.stamps import nanoseconds, split

KIND = "livox_ros_driver2/msg/CustomMsg"
STAMP = 1_700_000_000_123_456_789
STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE.register(get_types_from_msg(
    "uint32 offset_time\nfloat32 x\nfloat32 y\nfloat32 z\nuint8 reflectivity\nuint8 tag\nuint8 line\n",
    "livox_ros_driver2/msg/CustomPoint",
) | get_types_from_msg(
    "std_msgs/Header header\nuint64 timebase\nuint32 point_num\nuint8 lidar_id\nuint8[3] rsvd\nCustomPoint[] points\n",
    KIND,
))  # fmt: skip


def serialised(points, frame="livox_frame", **changes):
    """points: (x, y, z, reflectivity, offset_time) each."""
    new = lambda kind, **fields: STORE.types[kind](**fields)  # noqa: E731
    sec, nanosec = split(STAMP)
    stamp = new("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    made = [
        new("livox_ros_driver2/msg/CustomPoint", offset_time=t, x=x, y=y, z=z, reflectivity=r, tag=16, line=i % 4)
        for i, (x, y, z, r, t) in enumerate(points)
    ]
    message = new(KIND, **{
        "header": new("std_msgs/msg/Header", stamp=stamp, frame_id=frame), "timebase": STAMP, "point_num": len(made),
        "lidar_id": 1, "rsvd": np.zeros(3, np.uint8), "points": made,
    } | changes)  # fmt: skip
    return bytes(STORE.serialize_cdr(message, KIND))


POINTS = [(1.5, -2.0, 0.25, 10, 0), (3.0, 4.0, 5.0, 255, 50_000_000), (-7.0, 8.5, 9.0, 0, 99_000_000)]


@pytest.mark.parametrize("frame", ["", "l", "livox_frame", "base/livox_front", "seven77"])
@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_custom_message_is_decoded_to_a_cloud(frame, size):
    message = decode_livox(serialised(POINTS[:size], frame))
    cloud = decode_cloud(message)
    expected = np.array(POINTS[:size], np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(cloud.points, expected[:, :3])
    np.testing.assert_array_equal(cloud.intensity, expected[:, 3])
    np.testing.assert_allclose(point_times(message), expected[:, 4] * 1e-9, atol=1e-9)
    np.testing.assert_array_equal(decode_field(message, "line"), np.arange(size))
    assert (message.header.frame_id, nanoseconds(message.header.stamp)) == (frame, STAMP)


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("livox_ros_driver2/msg/CustomMsg", True), ("livox_ros_driver/CustomMsg", True),
        ("livox_interfaces/msg/CustomMsg", True), ("livox_ros_driver2/msg/CustomPoint", False),
        ("my_msgs/msg/CustomMsg", False), ("sensor_msgs/msg/PointCloud2", False),
    ],
)  # fmt: skip
def test_custom_message_is_recognised_by_its_type(kind, right):
    assert is_livox(kind) is right


def test_truncated_custom_message_is_refused_at_every_length():
    whole = serialised(POINTS)
    for length in range(len(whole)):
        with pytest.raises(ValueError, match="CustomMsg of Livox's"):
            decode_livox(whole[:length])


def test_wrong_point_num_is_ignored():
    assert len(decode_cloud(decode_livox(serialised(POINTS, point_num=9))).points) == 3


def test_bag_of_custom_messages_is_read(tmp_path):
    with Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection("/livox/lidar", KIND, typestore=STORE)
        for index in range(3):
            writer.write(connection, STAMP + index, serialised(POINTS[: index + 1]))
    reader = BagReader(tmp_path / "bag")
    assert reader.points_topic == "/livox/lidar" and reader.lidar_frame == "livox_frame"
    assert [len(frame.points) for frame in reader.frames()] == [1, 2, 3]
    assert list(reader.frames())[2].intensity.tolist() == [10, 255, 0]
