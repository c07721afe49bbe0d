"""The LiDAR's way through a bag, and what its frames make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tttkd_ros.bags.odometry import lidar_trajectory
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.static_transforms import StaticTransforms
from tttkd_ros.bags.writer import BagWriter
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


def driven(trajectory) -> np.ndarray:
    """(3,) metres in the LiDAR's own frame, over the first 100 ms."""
    return trajectory.between(START, START + 100 * MILLISECOND)[:3, 3]


def test_the_way_goes_through_what_is_fixed_on_the_vehicle(moving, statics):
    mounted = statics(("base", "lidar", (1.0, 0.0, 2.0), QUARTER_TURN))
    found = lidar_trajectory(moving("odom", "base"), "odom", "lidar", mounted)
    np.testing.assert_allclose(found.at([START])[0][:3, 3], (1, 0, 2))
    np.testing.assert_allclose(driven(found), (0, -1, 0), atol=1e-9)  # the LiDAR looks to the left


def test_two_moving_links_add_up(moving, statics):
    messages = [*moving("odom", "base"), *moving("base", "lidar", range(-30, 400, 70))]
    found = lidar_trajectory(messages, "odom", "lidar", StaticTransforms())
    np.testing.assert_allclose(driven(found), (2, 0, 0), atol=1e-6)
    assert (found.first, found.last) == (START, START + 390 * MILLISECOND)


def test_frames_may_be_spelt_with_a_slash(moving, statics):
    found = lidar_trajectory(moving("/odom", "lidar"), "odom", "/lidar", statics())
    np.testing.assert_allclose(driven(found), (1, 0, 0), atol=1e-9)


def test_a_frame_that_nothing_ties_to_odometry_is_refused_with_how_far_it_goes(moving, statics):
    with pytest.raises(ValueError, match="tie 'lidar' to 'base' at the most, not to 'map'"):
        lidar_trajectory(moving("odom", "wheel"), "map", "lidar", statics(("base", "lidar", (0, 0, 0), AHEAD)))


def test_a_lidar_that_does_not_move_is_refused(statics):
    with pytest.raises(ValueError, match="'lidar' does not move in 'odom'"):
        lidar_trajectory([], "odom", "lidar", statics(("odom", "lidar", (0.0, 0, 0), AHEAD)))


def test_a_circle_is_refused(moving, statics):
    with pytest.raises(ValueError, match="circle"):
        lidar_trajectory(moving("lidar", "base"), "odom", "lidar", statics(("base", "lidar", (0.0, 0, 0), AHEAD)))


def test_links_that_are_never_known_together_are_refused(moving, statics):
    messages = [*moving("odom", "base", [0, 20]), *moving("base", "lidar", [100, 120])]
    with pytest.raises(ValueError, match="never known at one time"):
        lidar_trajectory(messages, "odom", "lidar", StaticTransforms())


def test_a_jump_back_in_time_is_refused(moving):
    with pytest.raises(ValueError, match="time jumps back by 2.0 s"):
        lidar_trajectory(moving("odom", "lidar", [3000, 1000]), "odom", "lidar", StaticTransforms())


@pytest.fixture
def bag(frame, tmp_path):
    """Two sweeps of a vehicle at 10 m/s, each measured over 50 ms, their images 30 ms after them."""
    times = np.linspace(0, 0.05, 20)
    frames = [replace(frame(index, image_delay=30 * MILLISECOND), times=times) for index in range(2)]
    with BagWriter(tmp_path / "bag") as writer:
        for ms in range(0, 200, 20):
            pose = np.eye(4)
            pose[0, 3] = SPEED * ms * 1e-3
            writer.write_pose(pose, START + ms * MILLISECOND)
        for each in frames:
            writer.write_frame(each)
    return tmp_path / "bag", frames, times


def test_a_bags_frames_follow_its_odometry(bag):
    path, written, times = bag
    for read, frame in zip(BagReader(path).frames(), written, strict=True):
        np.testing.assert_array_equal(read.points, frame.points)
        np.testing.assert_allclose(read.deskewed, frame.points + times[:, None] * [SPEED, 0, 0], atol=1e-3)
        before, after = frame.views[0].camera_from_lidar, read.views[0].camera_from_lidar
        np.testing.assert_allclose(after[:3, 3] - before[:3, 3], before[:3, :3] @ (-SPEED * 0.03, 0, 0), atol=1e-6)


def test_without_a_fixed_frame_the_vehicle_stands(bag):
    path, written, _ = bag
    for read, frame in zip(BagReader(path, fixed_frame="").frames(), written, strict=True):
        assert read.deskewed is None
        np.testing.assert_allclose(read.views[0].camera_from_lidar, frame.views[0].camera_from_lidar, atol=1e-9)


def test_odometry_in_another_frame_is_told_and_does_without(bag, caplog):
    (first, _) = BagReader(bag[0], fixed_frame="map").frames()
    assert first.deskewed is None
    assert "as if the vehicle stood" in caplog.text and "not to 'map'" in caplog.text


def test_sweeps_that_odometry_does_not_reach_are_told_once(frame, tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as writer:
        for ms in (-1000, -980):
            pose = np.eye(4)
            pose[0, 3] = SPEED * ms * 1e-3
            writer.write_pose(pose, START + ms * MILLISECOND)
        for index in range(3):
            writer.write_frame(frame(index))
    assert len(list(BagReader(tmp_path / "bag").frames())) == 3
    assert caplog.text.count("projected at the cloud's time") == 1
