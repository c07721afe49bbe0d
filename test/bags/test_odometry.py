"""The LiDAR's way through a bag, and what its frames make of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.writer import BagWriter

START = 1_700_000_000 * 10**9
MILLISECOND = 10**6
SPEED = 10.0


@pytest.fixture
def bag(frame, tmp_path):
    """Two sweeps of a vehicle at 10 m/s, each measured over 50 ms, their images 30 ms after them."""
    times = np.linspace(0, 0.05, 20)
    frames = [replace(frame(index, image_delay=30 * MILLISECOND), features={"time": times}) for index in range(2)]
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


def test_each_sweep_follows_the_odometry_of_its_own_lidar(make, frame, tmp_path):
    """One LiDAR looks ahead, one to the left; one of them has another mount from the second pair of sweeps on."""
    half = 0.5**0.5
    ahead, left, back = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, half, half), (0.0, 0.0, 1.0, 0.0)
    with BagWriter(tmp_path / "bag") as writer:
        for ms in range(0, 400, 20):
            pose = np.eye(4)
            pose[0, 3] = SPEED * ms * 1e-3
            writer.write_pose(pose, START + ms * MILLISECOND, lidar_frame="base")
        for index in range(4):
            if index in (0, 2):
                links = [("base", "ahead", (0.0, 0, 0), ahead), ("base", "left", (0.0, 0, 0), back if index else left)]
                stamp = START + index * 100 * MILLISECOND
                writer.write("/tf_static", "tf2_msgs/msg/TFMessage", make.transforms(*links), stamp)
            each = replace(frame(index, image_delay=30 * MILLISECOND), features={"time": np.full(20, 0.05)})
            cloud = replace(each, views=(), labels=None)
            writer.write_frame(cloud, lidar_frame=("ahead", "left")[index % 2])
            for topic, kind, message in (
                ("/camera_front/camera_info", "CameraInfo", make.info(each.stamp)),
                ("/camera_front/image", "Image", make.image(each.stamp, each.views[0].image)),
            ):
                writer.write(topic, f"sensor_msgs/msg/{kind}", message, each.stamp)
            if index == 0:
                place = make.transforms(("base", "camera_front_optical", (0.0, 0, 0), ahead))
                writer.write("/tf_static", "tf2_msgs/msg/TFMessage", place, START)
    moved = [read.deskewed - read.points for read in BagReader(tmp_path / "bag").frames()]
    expected = [(0.5, 0, 0), (0, -0.5, 0), (0.5, 0, 0), (-0.5, 0, 0)]
    for found, want in zip(moved, expected, strict=True):
        np.testing.assert_allclose(found, np.tile(want, (20, 1)), atol=1e-3)


def test_odometry_in_another_frame_is_logged_and_not_used(bag, caplog):
    (first, _) = BagReader(bag[0], fixed_frame="map").frames()
    assert first.deskewed is None
    assert "projected at the cloud's time" in caplog.text and "to 'map'" in caplog.text


def test_sweeps_that_odometry_does_not_reach_are_logged_once(frame, tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as writer:
        for ms in (-1000, -980):
            pose = np.eye(4)
            pose[0, 3] = SPEED * ms * 1e-3
            writer.write_pose(pose, START + ms * MILLISECOND)
        for index in range(3):
            writer.write_frame(frame(index))
    assert len(list(BagReader(tmp_path / "bag").frames())) == 3
    assert caplog.text.count("projected at the cloud's time") == 1
