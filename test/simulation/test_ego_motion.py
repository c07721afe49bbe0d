"""A sweep measured on the move, and whether compensation undoes the motion."""

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
from tttkd_ros.simulation.drive import PERIOD, START, WORLDS, DriveProfile, drive, drive_with_depth, frames, odometry
from tttkd_ros.simulation.ego_motion import SIGHT, SPEED, EgoMotion, Rolling
from tttkd_ros.simulation.layout import build
from tttkd_ros.simulation.parts import LABEL_OF_PART

FAST = Rolling(speed=20.0)


@pytest.fixture(scope="module")
def fast():
    """A drive at 20 m/s: (frame, parts in the image) of each sweep, and the way."""
    way = Trajectory(*odometry("kitti", 3, 4, DriveProfile(skip=0.7, rolling=FAST)))
    return list(drive("kitti", 3, 4, DriveProfile(skip=0.7, rolling=FAST))), way


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
    (rolling,) = frames("kitti", 3, 1, DriveProfile(rolling=Rolling(duration=0.0)))
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
    way = Trajectory(*odometry("kitti", 0, 3, DriveProfile(rolling=FAST)))
    simulated = list(frames("kitti", 0, 3, DriveProfile(rolling=FAST)))
    for read, frame in zip(BagReader(tmp_path / "bag").frames(), simulated, strict=True):
        np.testing.assert_array_equal(read.points, frame.points)
        np.testing.assert_allclose(read.deskewed, deskew(frame.points, frame.times, frame.stamp, way), atol=2e-3)


def test_only_a_rolling_drive_has_a_speed(tmp_path):
    with pytest.raises(ValueError, match="speed is 20"):
        simulate(tmp_path / "bag", sweeps=1, speed=20.0)


def test_the_vehicle_stands_at_a_stop_and_then_drives_on_from_there():
    stamps, poses = odometry("kitti", 3, 12, DriveProfile(stop=(0.4, 0.9)))
    still = (stamps >= START + 4 * 10**8) & (stamps <= START + 9 * 10**8)
    assert still.sum() == 51
    assert (poses[still] == poses[still][0]).all()
    _, driven = odometry("kitti", 3, 12)
    np.testing.assert_array_equal(poses[:50], driven[:50])
    np.testing.assert_allclose(poses[100:], driven[50:-50], atol=1e-9)  # half a second later


def test_before_a_stop_a_drive_is_as_without_and_in_it_the_traffic_moves_on():
    with_stop, parts, _ = zip(*drive_with_depth("kitti", 3, 8, DriveProfile(stop=(2 * PERIOD, 8 * PERIOD))), strict=True)
    without, driven_by, _ = zip(*drive_with_depth("kitti", 3, 8), strict=True)
    for number in range(3):
        np.testing.assert_array_equal(with_stop[number].points, without[number].points)
    assert 0 < (parts[2] != parts[7]).mean() < 0.2 * (driven_by[2] != driven_by[7]).mean()


@pytest.mark.parametrize(("speed", "stop"), [(SPEED, (2.0, 62.0)), (20.0, (0.0, 0.0)), (SPEED, (0.0, 0.0))])
def test_the_traffic_of_the_own_lane_keeps_its_distance_at_every_speed_and_at_a_stop(speed, stop):
    style = replace(WORLDS["kitti"].style, traffic=25)
    ride = EgoMotion(build(style, 2000.0, np.random.default_rng(1), SIGHT / 2), 1.7, speed, np.zeros(3), stop)
    met = 0
    for time in np.arange(0, 70, 0.25):
        solids, from_world = ride.solids(time), np.linalg.inv(ride.pose(time))
        x, y, _ = from_world[:3, :3] @ solids.centre.T + from_world[:3, 3:]
        vehicle = np.isin(LABEL_OF_PART[solids.part], [OUTDOOR.names.index(name) for name in ("car", "truck")])
        met += (vehicle & (np.abs(x) < 30)).sum()
        assert not (vehicle & (np.abs(y) < 0.5) & (np.abs(x) < 7)).any(), time
    assert met


@pytest.mark.parametrize(
    ("options", "words"),
    [({"stop": (2.0, 1.0)}, "stop is from"), ({"stop": (1.0, 2.0), "shift": "fog"}, "'fog' and a stop")],
)
def test_stops_that_make_no_sense_are_refused(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        simulate(tmp_path / "bag", **options)
