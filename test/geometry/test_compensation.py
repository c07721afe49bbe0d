"""Motion compensation with and without known motion."""

from __future__ import annotations

import numpy as np
import pytest

from tttkd_ros.geometry.trajectory import Compensation, Trajectory

START = 1_700_000_000_000_000_000
POINTS = np.array([[10, 0, 0], [10, 1, 0]], np.float32)
TIMES = np.array([0.0, 0.1])


@pytest.fixture
def logged():
    return []


@pytest.fixture
def make(logged):
    return lambda trajectory: Compensation(trajectory, logged.append, logged.append)


def ahead(frame: str, stamps) -> Trajectory:
    """10 m/s along x."""
    poses = np.tile(np.eye(4), (2, 1, 1))
    poses[1, 0, 3] = 5.0
    return Trajectory([START - 250_000_000, START + 250_000_000], poses)


def unknown(frame: str, stamps) -> Trajectory:
    raise ValueError(f"no {frame!r} in TF")


def no_times():
    return None


def damaged():
    raise ValueError("a time is not finite")


def test_between_compensates_the_motion_up_to_the_image(make):
    np.testing.assert_allclose(make(ahead).between("lidar", START + 50_000_000, START)[:3, 3], (-0.5, 0, 0), atol=1e-9)


def test_points_are_deskewed_to_the_stamp(make, logged):
    moved = make(ahead).deskewed("lidar", START, POINTS, lambda: TIMES)
    np.testing.assert_allclose(moved, POINTS + [[0, 0, 0], [1, 0, 0]], atol=1e-3)
    assert logged == ["motion: the clouds have a time for each point; they are deskewed before projection"]


def test_unknown_motion_counts_as_standing_with_a_warning(make, logged):
    compensation = make(unknown)
    np.testing.assert_array_equal(compensation.between("lidar", START + 1, START), np.eye(4))
    assert logged == ["projected at the cloud's time, not the image's: no 'lidar' in TF"]
    assert compensation.deskewed("lidar", START, POINTS, lambda: TIMES) is None
    assert logged[-1] == "points not deskewed: no 'lidar' in TF"


def test_nothing_is_compensated_without_odometry(make, logged):
    compensation = make(None)
    np.testing.assert_array_equal(compensation.between("lidar", START + 1, START), np.eye(4))
    assert compensation.deskewed("lidar", START, POINTS, damaged) is None
    assert logged == []


def test_clouds_without_times_are_not_deskewed_and_logged_once(make, logged):
    compensation = make(ahead)
    for _ in range(2):
        assert compensation.deskewed("lidar", START, POINTS, no_times) is None
    assert logged == ["motion: the clouds have no field with each point's time; they are not deskewed"]


def test_invalid_times_leave_the_points_as_they_are(make, logged):
    assert make(ahead).deskewed("lidar", START, POINTS, damaged) is None
    assert logged == ["points not deskewed: a time is not finite"]
