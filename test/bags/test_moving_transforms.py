"""Frames that move against one another, as /tf and /tf_static tell it."""

from __future__ import annotations

import numpy as np
import pytest

from tttkd_ros.bags.moving_transforms import MovingTransforms
from tttkd_ros.bags.static_transforms import StaticTransforms
from tttkd_ros.messages.stamps import split

START = 1_700_000_000 * 10**9
MILLISECOND = 10**6
AHEAD, QUARTER_TURN = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.5**0.5, 0.5**0.5)
SPEED = 10.0


@pytest.fixture
def moving(make):
    """`moving(parent, child, milliseconds)`: /tf messages of a child that drives along its parent's x."""

    def moving(parent: str, child: str, milliseconds=range(0, 501, 20)) -> list:
        messages = []
        for ms in milliseconds:
            message = make.transforms((parent, child, (SPEED * ms * 1e-3, 0.0, 0.0), AHEAD))
            stamp = message.transforms[0].header.stamp
            stamp.sec, stamp.nanosec = split(START + ms * MILLISECOND)
            messages.append(message)
        return messages

    return moving


@pytest.fixture
def statics(make):
    """`statics(*links)`: links as `make.transforms` takes them."""

    def statics(*links) -> StaticTransforms:
        found = StaticTransforms()
        found.add(make.transforms(*links))
        return found

    return statics


def trajectory(messages, target, source, statics):
    return MovingTransforms(lambda: messages, statics).trajectory(target, source)


def driven(found) -> np.ndarray:
    """(3,) metres in the LiDAR's own frame, over the first 100 ms."""
    return found.between(START, START + 100 * MILLISECOND)[:3, 3]


def test_the_way_goes_through_what_is_fixed_on_the_vehicle(moving, statics):
    mounted = statics(("base", "lidar", (1.0, 0.0, 2.0), QUARTER_TURN))
    found = trajectory(moving("odom", "base"), "odom", "lidar", mounted)
    np.testing.assert_allclose(found.at([START])[0][:3, 3], (1, 0, 2))
    np.testing.assert_allclose(driven(found), (0, -1, 0), atol=1e-9)  # the LiDAR looks to the left


def test_two_moving_links_add_up(moving, statics):
    messages = [*moving("odom", "base"), *moving("base", "lidar", range(-30, 400, 70))]
    found = trajectory(messages, "odom", "lidar", StaticTransforms())
    np.testing.assert_allclose(driven(found), (2, 0, 0), atol=1e-6)
    assert (found.first, found.last) == (START, START + 390 * MILLISECOND)


def test_frames_may_be_spelt_with_a_slash(moving, statics):
    found = trajectory(moving("/odom", "lidar"), "odom", "/lidar", statics())
    np.testing.assert_allclose(driven(found), (1, 0, 0), atol=1e-9)


def test_a_frame_that_nothing_ties_to_odometry_is_refused_with_how_far_it_goes(moving, statics):
    with pytest.raises(ValueError, match="tie 'lidar' to 'base' at the most, not to 'map'"):
        trajectory(moving("odom", "wheel"), "map", "lidar", statics(("base", "lidar", (0, 0, 0), AHEAD)))


def test_a_lidar_that_does_not_move_is_refused(statics):
    with pytest.raises(ValueError, match="'lidar' does not move in 'odom'"):
        trajectory([], "odom", "lidar", statics(("odom", "lidar", (0.0, 0, 0), AHEAD)))


def test_a_circle_is_refused(moving, statics):
    with pytest.raises(ValueError, match="circle"):
        trajectory(moving("lidar", "base"), "odom", "lidar", statics(("base", "lidar", (0.0, 0, 0), AHEAD)))


def test_links_that_are_never_known_together_are_refused(moving, statics):
    messages = [*moving("odom", "base", [0, 20]), *moving("base", "lidar", [100, 120])]
    with pytest.raises(ValueError, match="never known at one time"):
        trajectory(messages, "odom", "lidar", StaticTransforms())


def test_a_jump_back_in_time_is_refused(moving):
    with pytest.raises(ValueError, match="time jumps back by 2.0 s"):
        trajectory(moving("odom", "lidar", [3000, 1000]), "odom", "lidar", StaticTransforms())


def test_what_moves_on_the_vehicle_is_found_through_the_nearest_common_frame(moving, statics):
    messages = [*moving("odom", "base"), *moving("base", "slider")]
    mounted = statics(("base", "lidar", (1.0, 0.0, 2.0), AHEAD), ("slider", "camera", (0.0, 0.0, 1.0), AHEAD))
    found = trajectory(messages, "camera", "lidar", mounted)
    np.testing.assert_allclose(found.at([START])[0][:3, 3], (1, 0, 1))
    np.testing.assert_allclose(found.at([START + 100 * MILLISECOND])[0][:3, 3], (0, 0, 1), atol=1e-9)


def test_messages_are_asked_for_once_and_only_when_needed(moving):
    asked = []
    transforms = MovingTransforms(lambda: asked.append(1) or moving("odom", "lidar"), StaticTransforms())
    assert not asked
    for _ in range(2):
        transforms.trajectory("odom", "lidar")
    assert len(asked) == 1
