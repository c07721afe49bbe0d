"""A sweep measured on the move, and whether compensation undoes the motion."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.geometry.motion import Trajectory, deskew
from tttkd_ros.geometry.projection import project
from tttkd_ros.geometry.transforms import apply
from tttkd_ros.simulation.command import simulate
from tttkd_ros.simulation.drive import START, drive, frames, odometry
from tttkd_ros.simulation.parts import LABEL_OF_PART
from tttkd_ros.simulation.ride import Rolling

FAST = Rolling(speed=20.0)


@pytest.fixture(scope="module")
def fast():
    """A drive at 20 m/s: (frame, parts in the image) of each sweep, and the way."""
    way = Trajectory(*odometry("kitti", 3, 4, skip=0.7, rolling=FAST))
    return list(drive("kitti", 3, 4, skip=0.7, rolling=FAST)), way


def agreement(points, camera_from_lidar, frame, parts) -> float:
    """Share of the points that fall on a pixel of their own class."""
    seen = project(torch.from_numpy(points), frame.views[0].camera, camera_from_lidar)
    columns, rows = seen.pixels[seen.visible].long().T.numpy()
    return float((LABEL_OF_PART[parts[rows, columns]] == frame.labels[seen.visible.numpy()]).mean())


def test_compensated_points_fall_on_pixels_of_their_own_class(fast):
    sequence, way = fast
    before, after = [], []
    for frame, parts in sequence:
        (view,) = frame.views
        before.append(agreement(frame.points, view.camera_from_lidar, frame, parts))
        moved = view.camera_from_lidar @ way.between(view.stamp, frame.stamp)
        after.append(agreement(deskew(frame.points, frame.times, frame.stamp, way), moved, frame, parts))
    assert np.mean(after) > 0.93
    assert np.mean(before) < np.mean(after) - 0.04


def pixels(points, camera_from_lidar, view) -> np.ndarray:
    found, inside = view.camera.project(apply(camera_from_lidar, torch.tensor(points, dtype=torch.float64)))
    return torch.where(inside[:, None], found, torch.nan).numpy()


def test_at_20_metres_per_second_compensated_pixels_are_right_to_a_fraction(fast):
    """Truth by the way at 100 Hz, each point moved from its own instant; compensation by odometry at 20 Hz."""
    sequence, way = fast
    odometry_20hz = Trajectory(way.stamps[::5], way.at(way.stamps[::5]))
    before, after = [], []
    for frame, _ in sequence:
        (view,) = frame.views
        instants = frame.stamp + np.rint(frame.times * 1e9).astype(np.int64)
        poses = np.linalg.inv(way.at([view.stamp])) @ way.at(instants)
        then = np.einsum("nij,nj->ni", poses[:, :3, :3], frame.points) + poses[:, :3, 3]
        truth = pixels(then, view.camera_from_lidar, view)
        deskewed = deskew(frame.points, frame.times, frame.stamp, odometry_20hz)
        moved = view.camera_from_lidar @ odometry_20hz.between(view.stamp, frame.stamp)
        before.append(np.linalg.norm(pixels(frame.points, view.camera_from_lidar, view) - truth, axis=1))
        after.append(np.linalg.norm(pixels(deskewed, moved, view) - truth, axis=1))
    before, after = (np.nanpercentile(np.concatenate(errors), (50, 95)) for errors in (before, after))
    assert before[0] > 2 and before[1] > 10  # of 392 pixels
    assert after[0] < 0.05 and after[1] < 0.3


def test_a_rolling_sweep_that_takes_no_time_is_an_instant_one():
    (rolling,) = frames("kitti", 3, 1, rolling=Rolling(duration=0.0))
    (instant,) = frames("kitti", 3, 1)
    np.testing.assert_array_equal(rolling.points, instant.points)
    np.testing.assert_array_equal(rolling.labels, instant.labels)


def test_a_rolling_sweep_goes_from_left_to_right_in_its_time(fast):
    for frame, _ in fast[0]:
        azimuth = np.arctan2(frame.points[:, 1], frame.points[:, 0])
        assert frame.times.min() == 0 and frame.times.max() == pytest.approx(FAST.duration)
        assert np.corrcoef(azimuth, frame.times)[0, 1] < -0.99


def test_a_rolling_drives_image_has_its_own_stamp(fast):
    assert {frame.views[0].stamp - frame.stamp for frame, _ in fast[0]} == {40_000_000}


def test_odometry_tells_the_speed_before_during_and_after_the_drive(fast):
    _, way = fast
    assert way.first <= START and way.last >= START + 2_200_000_000
    step = np.linalg.norm(np.diff(way.at(way.stamps)[:, :3, 3], axis=0), axis=1) * 100
    np.testing.assert_allclose(step, FAST.speed, rtol=0.05)


def test_a_rolling_bag_reads_compensated(tmp_path):
    simulate(tmp_path / "bag", sweeps=3, rolling=True, speed=20.0)
    way = Trajectory(*odometry("kitti", 0, 3, rolling=FAST))
    simulated = list(frames("kitti", 0, 3, rolling=FAST))
    for read, frame in zip(BagReader(tmp_path / "bag").frames(), simulated, strict=True):
        np.testing.assert_array_equal(read.points, frame.points)
        np.testing.assert_allclose(read.deskewed, deskew(frame.points, frame.times, frame.stamp, way), atol=2e-3)


def test_only_a_rolling_drive_has_a_speed(tmp_path):
    with pytest.raises(ValueError, match="speed is 20"):
        simulate(tmp_path / "bag", sweeps=1, speed=20.0)
