"""Frames of a bag in one another, by /tf_static and /tf."""

from __future__ import annotations

import numpy as np
import pytest

from tttkd_ros.bags.storage import open_bag
from tttkd_ros.bags.transforms import Transforms
from tttkd_ros.messages.stamps import split

TF = "tf2_msgs/msg/TFMessage"
START = 1_700_000_000 * 10**9
MILLISECOND = 10**6
IDENTITY, QUARTER_TURN = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.5**0.5, 0.5**0.5)
SPEED = 10.0


@pytest.fixture
def transforms(make, write_messages):
    """`transforms(links, moving)`: of a bag with these messages.

    links: (parent, child, translation, quaternion) on /tf_static, all received at START, or lists of them by time in ns
    after START. moving: messages for /tf.
    """

    def read(links=(), moving=()):
        static = links if isinstance(links, dict) else {0: links}
        messages = [("/tf_static", TF, make.transforms(*each), START + time) for time, each in static.items() if each]
        messages += [("/tf", TF, message, START + index) for index, message in enumerate(moving)]
        path = write_messages(messages)
        with open_bag(path) as bag:
            return Transforms(bag, lambda: open_bag(path), "/lidar/points")

    return read


@pytest.fixture
def moving(make):
    """`moving(parent, child, milliseconds)`: /tf messages of a child that drives along its parent's x axis."""

    def moving(parent: str, child: str, milliseconds=range(0, 501, 20)) -> list:
        messages = []
        for ms in milliseconds:
            message = make.transforms((parent, child, (SPEED * ms * 1e-3, 0.0, 0.0), IDENTITY))
            stamp = message.transforms[0].header.stamp
            stamp.sec, stamp.nanosec = split(START + ms * MILLISECOND)
            messages.append(message)
        return messages

    return moving


def place(parent: str, child: str, *translation: float, rotation=IDENTITY):
    return parent, child, translation or (0.0, 0.0, 0.0), rotation


def lookup(transforms, target: str, source: str, received: int = START) -> np.ndarray:
    return transforms.lookup(target, source, START, received)


def motion(transforms, target: str, source: str) -> np.ndarray:
    """(3,) metres in the source's own frame, over the first 100 ms."""
    return transforms.trajectory(target, source, START).between(START, START + 100 * MILLISECOND)[:3, 3]


def test_a_point_of_a_child_is_expressed_in_its_parent(transforms):
    found = transforms([place("base", "lidar", 1.0, 2.0, 3.0)])
    np.testing.assert_array_equal(lookup(found, "base", "lidar") @ [0, 0, 0, 1], [1, 2, 3, 1])
    np.testing.assert_array_equal(lookup(found, "lidar", "base") @ [0, 0, 0, 1], [-1, -2, -3, 1])


def test_siblings_are_connected_through_their_nearest_common_ancestor(transforms):
    links = [place("map", "base", 100.0, 0.0, 0.0), place("base", "lidar", 0.0, 0.0, 2.0),
             place("base", "camera", 1.0, 0.0, 0.0)]  # fmt: skip
    np.testing.assert_array_equal(lookup(transforms(links), "camera", "lidar")[:3, 3], [-1, 0, 2])


def test_a_frame_is_connected_to_itself(transforms):
    np.testing.assert_array_equal(lookup(transforms(), "lidar", "lidar"), np.eye(4))


def test_a_leading_slash_makes_no_difference(transforms, moving):
    found = transforms([place("/base", "lidar", 1.0, 0.0, 0.0)], moving("/odom", "base"))
    assert lookup(found, "base", "/lidar")[0, 3] == 1
    np.testing.assert_allclose(motion(found, "odom", "/lidar"), (1, 0, 0), atol=1e-9)


def test_the_last_transform_of_a_message_holds(transforms):
    found = transforms([place("base", "lidar", 1.0, 0.0, 0.0), place("base", "lidar", 2.0, 0.0, 0.0)])
    assert lookup(found, "base", "lidar")[0, 3] == 2


def test_a_static_transform_holds_from_its_receipt_and_the_first_one_before_it_too(transforms):
    found = transforms({time: [place("base", "lidar", x, 0.0, 0.0)]
                        for time, x in ((100, 1.0), (200, 1.0), (300, 2.0), (400, 3.0))})
    times = (0, 100, 299, 300, 399, 400, 10**18)
    assert [lookup(found, "base", "lidar", START + time)[0, 3] for time in times] == [1, 1, 1, 2, 2, 3, 3]


def test_a_frame_may_get_another_parent(transforms):
    found = transforms({0: [place("base", "lidar", 1.0, 0.0, 0.0), place("mast", "camera")],
                        100: [place("mast", "lidar", 5.0, 0.0, 0.0)]})
    assert lookup(found, "camera", "lidar", START + 100)[0, 3] == 5
    with pytest.raises(ValueError, match="no transform connects 'lidar' to 'camera'"):
        lookup(found, "camera", "lidar", START + 99)


@pytest.mark.parametrize("on_tf, known", [((), "base, lidar"), (("odom", "wheel"), "base, lidar, odom, wheel")])
def test_frames_that_are_not_connected_are_named_with_the_known_ones(transforms, moving, on_tf, known):
    found = transforms([place("base", "lidar")], moving(*on_tf) if on_tf else [])
    with pytest.raises(ValueError, match=f"connects 'lidar' to 'map', only to 'base'; known frames: {known}$"):
        lookup(found, "map", "lidar")


@pytest.mark.parametrize("on_tf", [False, True])
def test_a_circle_is_refused(transforms, moving, on_tf):
    back = [] if on_tf else [place("lidar", "base", 1.0, 0.0, 0.0)]
    found = transforms([place("base", "lidar"), *back], moving("lidar", "base") if on_tf else [])
    with pytest.raises(ValueError, match="circle through"):
        lookup(found, "odom", "lidar")


def test_a_quaternion_of_zero_length_is_refused(transforms):
    with pytest.raises(ValueError, match="bag, /tf_static: quaternion"):
        transforms([place("base", "lidar", rotation=(0.0, 0.0, 0.0, 0.0))])


def test_a_trajectory_includes_what_is_fixed_on_the_vehicle(transforms, moving):
    found = transforms([place("base", "lidar", 1.0, 0.0, 2.0, rotation=QUARTER_TURN)], moving("odom", "base"))
    np.testing.assert_allclose(found.trajectory("odom", "lidar", START).at([START])[0][:3, 3], (1, 0, 2))
    np.testing.assert_allclose(motion(found, "odom", "lidar"), (0, -1, 0), atol=1e-9)  # the LiDAR looks to the left


def test_two_moving_links_add_up(transforms, moving):
    found = transforms((), [*moving("odom", "base"), *moving("base", "lidar", range(-30, 400, 70))])
    np.testing.assert_allclose(motion(found, "odom", "lidar"), (2, 0, 0), atol=1e-6)
    trajectory = found.trajectory("odom", "lidar", START)
    assert (trajectory.first, trajectory.last) == (START, START + 390 * MILLISECOND)


def test_what_moves_on_the_vehicle_is_found_through_the_nearest_common_frame(transforms, moving):
    links = [place("base", "lidar", 1.0, 0.0, 2.0), place("slider", "camera", 0.0, 0.0, 1.0)]
    found = transforms(links, [*moving("odom", "base"), *moving("base", "slider")])
    for ms, x in ((-100, 1), (0, 1), (100, 0), (500, -4), (900, -4)):  # clamped to the times that /tf has
        pose = found.lookup("camera", "lidar", START + ms * MILLISECOND, START)
        np.testing.assert_allclose(pose[:3, 3], (x, 0, 1), atol=1e-9)


def test_a_lidar_that_does_not_move_has_no_trajectory(transforms):
    with pytest.raises(ValueError, match="'lidar' does not move in 'odom'"):
        transforms([place("odom", "lidar")]).trajectory("odom", "lidar", START)


def test_links_that_are_never_known_together_are_refused(transforms, moving):
    found = transforms((), [*moving("odom", "base", [0, 20]), *moving("base", "lidar", [100, 120])])
    with pytest.raises(ValueError, match="never known at the same time"):
        found.trajectory("odom", "lidar", START)


def test_tf_is_read_once_and_only_when_it_is_needed(make, moving, write_messages):
    """Also if it cannot be used: it is as long as the bag."""
    jump = moving("odom", "base", [3000, 1000])
    path = write_messages([("/tf_static", TF, make.transforms(place("base", "lidar")), START),
                           *(("/tf", TF, message, START) for message in jump)])
    opened = []
    with open_bag(path) as bag:
        found = Transforms(bag, lambda: opened.append(1) or open_bag(path), "/lidar/points")
    lookup(found, "base", "lidar")
    assert not opened
    for _ in range(2):
        with pytest.raises(ValueError, match="time jumps back by 2.0 s"):
            found.trajectory("odom", "lidar", START)
    assert len(opened) == 1
