import struct
from types import SimpleNamespace

import pytest

from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.stamps import frame_id_of_raw, nanoseconds, split, stamp_of_raw

STAMP = 1_317_000_000_123_456_789


def test_stamp_keeps_every_nanosecond():
    sec, nanosec = split(STAMP)
    assert nanoseconds(SimpleNamespace(sec=sec, nanosec=nanosec)) == STAMP


def test_stamp_is_read_from_a_serialised_message():
    store = standard_types()
    sec, nanosec = split(STAMP)
    time = store.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    header = store.types["std_msgs/msg/Header"](stamp=time, frame_id="lidar")
    assert stamp_of_raw(bytes(store.serialize_cdr(header, "std_msgs/msg/Header"))) == STAMP


def test_big_endian_stamp_is_read():
    assert stamp_of_raw(b"\x00\x00\x00\x00" + struct.pack(">iI", 12, 34)) == 12_000_000_034


def test_message_too_short_for_a_stamp_is_refused():
    with pytest.raises(ValueError, match="11 bytes, expected at least the 12"):
        stamp_of_raw(bytes(11))


@pytest.fixture
def serialised():
    def serialise(frame_id, little=True):
        types = standard_types()
        make = types.types
        stamp = make["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
        header = make["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)
        return bytes(types.serialize_cdr(header, "std_msgs/msg/Header", little_endian=little))

    return serialise


@pytest.mark.parametrize("frame_id", ["", "lidar", "/robot1/camera_front_optical", "Kamera_hinten_ü"])
@pytest.mark.parametrize("little", [True, False])
def test_frame_id_is_read_from_a_serialised_message(serialised, frame_id, little):
    assert frame_id_of_raw(serialised(frame_id, little)) == frame_id


@pytest.mark.parametrize("length", [0, 1, 12, 15, 18])
def test_message_too_short_for_a_frame_id_is_refused(serialised, length):
    with pytest.raises(ValueError, match=f"holds {length} bytes"):
        frame_id_of_raw(serialised("lidar")[:length])


def test_frame_id_that_is_not_utf8_is_refused(serialised):
    with pytest.raises(ValueError):
        frame_id_of_raw(serialised("lidar").replace(b"lidar", b"\xff\xff\xff\xff\xff"))
