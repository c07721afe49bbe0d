"""Sweeps that are measured on the move, and motion compensation that undoes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.cli.simulate import simulate
from tttkd_ros.geometry.projection import project
from tttkd_ros.geometry.trajectory import Trajectory, deskew
from tttkd_ros.geometry.transforms import apply
from tttkd_ros.simulation.drive import PERIOD, START, WORLDS, DriveProfile, drive, frames, odometry
from tttkd_ros.simulation.ego_motion import SPEED, VIEW_DISTANCE, EgoMotion, Rolling
from tttkd_ros.simulation.layout import build
from tttkd_ros.simulation.parts import LABEL_OF_PART
from tttkd_ros.simulation.shifts import drive_seed

FAST = Rolling(speed=20.0)


@pytest.fixture(scope="module")
def fast():
    """A drive at 20 m/s: (frame, parts, depth) of each sweep, and the trajectory."""
    arguments = "kitti", 3, 4, DriveProfile(period=0.7, rolling=FAST)
    return list(drive(*arguments)), Trajectory(*odometry(*arguments))


def agreement(points, camera_from_lidar, frame, parts) -> float:
    """Share of the points that project to a pixel of their own class."""
    projected = project(torch.from_numpy(points), frame.views[0].camera, camera_from_lidar)
    columns, rows = projected.pixels[projected.visible].long().T.numpy()
    return float((LABEL_OF_PART[parts[rows, columns]] == frame.labels[projected.visible.numpy()]).mean())


def test_compensated_points_project_to_pixels_of_their_own_class(fast):
    sweeps, trajectory = fast
    before, after = [], []
    for frame, (parts,), _ in sweeps:
        (view,) = frame.views
        before.append(agreement(frame.points, view.camera_from_lidar, frame, parts))
        moved = view.camera_from_lidar @ trajectory.between(view.stamp, frame.stamp)
        after.append(agreement(deskew(frame.points, frame.times, frame.stamp, trajectory), moved, frame, parts))
    assert np.mean(after) > 0.93
    assert np.mean(before) < np.mean(after) - 0.04


def pixels(points, camera_from_lidar, view) -> np.ndarray:
    projected, inside = view.camera.project(apply(camera_from_lidar, torch.tensor(points, dtype=torch.float64)))
    return torch.where(inside[:, None], projected, torch.nan).numpy()


def test_at_20_metres_per_second_compensated_pixels_are_right_to_a_fraction(fast):
    """The truth moves each point along the trajectory at 100 Hz. Compensation has odometry at 20 Hz."""
    sweeps, trajectory = fast
    odometry_20hz = Trajectory(trajectory.stamps[::5], trajectory.at(trajectory.stamps[::5]))
    before, after = [], []
    for frame, _, _ in sweeps:
        (view,) = frame.views
        stamps = frame.stamp + np.rint(frame.times * 1e9).astype(np.int64)
        poses = np.linalg.inv(trajectory.at([view.stamp])) @ trajectory.at(stamps)
        points = np.einsum("nij,nj->ni", poses[:, :3, :3], frame.points) + poses[:, :3, 3]
        truth = pixels(points, view.camera_from_lidar, view)
        deskewed = deskew(frame.points, frame.times, frame.stamp, odometry_20hz)
        moved = view.camera_from_lidar @ odometry_20hz.between(view.stamp, frame.stamp)
        before.append(np.linalg.norm(pixels(frame.points, view.camera_from_lidar, view) - truth, axis=1))
        after.append(np.linalg.norm(pixels(deskewed, moved, view) - truth, axis=1))
    before, after = (np.nanpercentile(np.concatenate(errors), (50, 95)) for errors in (before, after))
    assert before[0] > 2 and before[1] > 10  # of 392 pixels
    assert after[0] < 0.05 and after[1] < 0.3


def test_a_rolling_sweep_of_no_duration_is_an_instant_one():
    (rolling,) = frames("kitti", 3, 1, DriveProfile(rolling=Rolling(duration=0.0)))
    (instant,) = frames("kitti", 3, 1)
    np.testing.assert_array_equal(rolling.points, instant.points)
    np.testing.assert_array_equal(rolling.labels, instant.labels)


def test_a_rolling_sweep_goes_from_left_to_right_and_its_image_has_its_own_stamp(fast):
    for frame, _, _ in fast[0]:
        azimuth = np.arctan2(frame.points[:, 1], frame.points[:, 0])
        assert frame.times.min() == 0 and frame.times.max() == pytest.approx(FAST.duration)
        assert np.corrcoef(azimuth, frame.times)[0, 1] < -0.99
        assert frame.views[0].stamp - frame.stamp == 40_000_000


def test_odometry_covers_the_drive_at_its_speed(fast):
    _, trajectory = fast
    assert trajectory.first <= START and trajectory.last >= START + 2_200_000_000
    speed = np.linalg.norm(np.diff(trajectory.at(trajectory.stamps)[:, :3, 3], axis=0), axis=1) * 100
    np.testing.assert_allclose(speed, FAST.speed, rtol=0.05)


@pytest.mark.parametrize(("shift", "seed"), [(None, 0), ("kitti", drive_seed("kitti", 0))])
def test_a_rolling_bag_is_read_compensated(shift, seed, tmp_path):
    simulate(tmp_path / "bag", shift=shift, sweeps=2, rolling=True, speed=20.0)
    arguments = "kitti", seed, 2, DriveProfile(rolling=FAST)
    trajectory = Trajectory(*odometry(*arguments))
    for read, frame in zip(BagReader(tmp_path / "bag").frames(), frames(*arguments), strict=True):
        np.testing.assert_array_equal(read.points, frame.points)
        np.testing.assert_allclose(read.deskewed, deskew(frame.points, frame.times, frame.stamp, trajectory), atol=2e-3)


def test_the_vehicle_stands_during_a_stop_and_continues_from_there():
    stamps, poses = odometry("kitti", 3, 12, DriveProfile(stop=(0.4, 0.9)))
    stopped = (stamps >= START + 4 * 10**8) & (stamps <= START + 9 * 10**8)
    assert stopped.sum() == 51
    assert (poses[stopped] == poses[stopped][0]).all()
    _, without_stop = odometry("kitti", 3, 12)
    np.testing.assert_array_equal(poses[:50], without_stop[:50])
    np.testing.assert_allclose(poses[100:], without_stop[50:-50], atol=1e-9)  # half a second later


def test_a_stop_changes_nothing_before_it_and_other_traffic_moves_during_it():
    stop = DriveProfile(stop=(PERIOD, 4 * PERIOD))
    frames_with, parts_with, _ = zip(*drive("kitti", 4, 5, stop), strict=True)
    frames_without, parts_without, _ = zip(*drive("kitti", 4, 5), strict=True)
    for number in range(2):
        np.testing.assert_array_equal(frames_with[number].points, frames_without[number].points)
    assert 0 < (parts_with[1][0] != parts_with[4][0]).mean() < 0.2 * (parts_without[1][0] != parts_without[4][0]).mean()


@pytest.mark.parametrize(("speed", "stop"), [(SPEED, (2.0, 62.0)), (20.0, (0.0, 0.0)), (SPEED, (0.0, 0.0))])
def test_traffic_on_the_own_lane_keeps_its_distance_at_every_speed_and_at_a_stop(speed, stop):
    style = replace(WORLDS["kitti"].style, traffic=25)
    motion = EgoMotion(build(style, 2000.0, np.random.default_rng(1), VIEW_DISTANCE / 2), 1.7, speed, np.zeros(3), stop)
    nearby = 0
    for time in np.arange(0, 70, 0.25):
        solids, lidar_from_world = motion.solids(time), np.linalg.inv(motion.pose(time))
        x, y, _ = lidar_from_world[:3, :3] @ solids.centre.T + lidar_from_world[:3, 3:]
        vehicle = np.isin(LABEL_OF_PART[solids.part], [OUTDOOR.names.index(name) for name in ("car", "truck")])
        nearby += (vehicle & (np.abs(x) < 30)).sum()
        assert not (vehicle & (np.abs(y) < 0.5) & (np.abs(x) < 7)).any(), time
    assert nearby


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"speed": 20.0}, "speed is 20"),
        ({"stop": (2.0, 1.0)}, "stop is from"),
        ({"stop": (1.0, 2.0), "shift": "fog"}, "'fog' and a stop"),
        ({"world": "a2d2", "shift": "fog"}, "world 'a2d2' and shift 'fog'"),
        ({"sweeps": 0}, "sweeps is 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, options, error):
    with pytest.raises(ValueError, match=error):
        simulate(tmp_path / "bag", **options)
    assert not (tmp_path / "bag").exists()
