import pytest

from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.frame_ids import frame_id_of_raw, known_as


@pytest.mark.parametrize("frame, known, expected", [
    ("lidar", {"lidar", "robot1/lidar"}, "lidar"),
    ("/lidar", {"lidar"}, "lidar"),
    ("lidar", {"robot1/lidar", "robot1/base"}, "robot1/lidar"),
    ("robot1/lidar", {"lidar", "base"}, "lidar"),
    ("/robot1/lidar", {"fleet/robot1/lidar"}, "fleet/robot1/lidar"),
    ("lidar", {"front_lidar", "lidar2"}, "lidar"),
    ("", {"robot1/"}, ""),
])
def test_a_tf_prefix_may_stand_on_one_side_only(frame, known, expected):
    assert known_as(frame, known) == expected


def test_a_frame_that_could_be_several_is_refused_with_them():
    with pytest.raises(ValueError, match="'lidar' could be any of robot1/lidar, robot2/lidar"):
        known_as("lidar", {"robot1/lidar", "robot2/lidar"})


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
def test_the_frame_id_is_read_from_the_serialised_message(serialised, frame_id, little):
    assert frame_id_of_raw(serialised(frame_id, little)) == frame_id


@pytest.mark.parametrize("length", [0, 1, 12, 15, 18])
def test_a_message_cut_short_is_refused(serialised, length):
    with pytest.raises(ValueError, match=f"holds {length} bytes"):
        frame_id_of_raw(serialised("lidar")[:length])


def test_a_frame_id_that_is_no_text_is_refused(serialised):
    with pytest.raises(ValueError):
        frame_id_of_raw(serialised("lidar").replace(b"lidar", b"\xff\xff\xff\xff\xff"))
