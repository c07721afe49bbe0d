"""Trajectories and deskewing, compared with a motion that has a formula."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tttkd_ros.geometry.trajectory import EXTRAPOLATION_NS, Trajectory, deskew, sweep_stamps
from tttkd_ros.geometry.transforms import inverse

START = 1_700_000_000_000_000_000
MILLISECOND = 10**6
SPEED, TURN = 15.0, 0.5  # metres and radians per second


def apply(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def pose(seconds: float) -> np.ndarray:
    """A constant turn to the left, far from the fixed frame's origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec([0, 0, TURN * seconds]).as_matrix()
    radius = SPEED / TURN
    matrix[:3, 3] = 5e5 + radius * np.sin(TURN * seconds), 4e6 + radius * (1 - np.cos(TURN * seconds)), 1.0
    return matrix


def trajectory(milliseconds=range(0, 301, 10)) -> Trajectory:
    return Trajectory([START + ms * MILLISECOND for ms in milliseconds], [pose(ms * 1e-3) for ms in milliseconds])


@pytest.fixture
def sweep():
    """Points (N, 3) where they are at 0 s, each point's time of measurement (N,), and as it was measured (N, 3)."""
    generator = np.random.default_rng(0)
    still = generator.uniform(-50, 50, (300, 3))
    times = generator.uniform(0, 0.1, len(still))
    measured = [apply(inverse(pose(t)) @ pose(0), p[None])[0] for t, p in zip(times, still, strict=True)]
    return still, times, np.array(measured, np.float32)


def test_pose_is_interpolated_between_stamps():
    (found,) = trajectory().at([START + 105 * MILLISECOND])
    np.testing.assert_allclose(found, pose(0.105), atol=2e-4)  # a chord instead of the arc: 0.1 mm


def test_poses_may_be_given_in_any_order():
    shuffled = trajectory([200, 0, 100])
    assert shuffled.stamps.tolist() == [START, START + 100 * MILLISECOND, START + 200 * MILLISECOND]
    np.testing.assert_allclose(shuffled.at([START + 100 * MILLISECOND])[0], pose(0.1), atol=1e-9)


def test_last_pose_of_equal_stamps_is_used():
    found = Trajectory([START, START, START + MILLISECOND], [pose(1), pose(0), pose(0.001)])
    np.testing.assert_allclose(found.at([START])[0], pose(0), atol=1e-9)


@pytest.mark.parametrize("ms", [-80, 380])
def test_velocity_is_constant_shortly_beyond_the_ends(ms):
    (found,) = trajectory().at([START + ms * MILLISECOND])
    np.testing.assert_allclose(found, pose(ms * 1e-3), atol=0.015)  # standing still would be 1.2 m


@pytest.mark.parametrize(("ms", "message"), [(-151, "from 151 ms after"), (451, "up to 151 ms before")])
def test_stamp_far_beyond_the_ends_is_refused(ms, message):
    with pytest.raises(ValueError, match=message):
        trajectory().at([START + ms * MILLISECOND])


def test_velocity_is_not_taken_from_two_poses_close_in_time():
    noisy = pose(0.1)
    noisy[0, 3] += 0.01  # after a millisecond: 10 m/s too much
    found = Trajectory([START, START + 99 * MILLISECOND, START + 100 * MILLISECOND], [pose(0), pose(0.099), noisy])
    (onward,) = found.at([START + 200 * MILLISECOND])
    assert abs(onward[0, 3] - pose(0.2)[0, 3]) < 0.1


def test_single_pose_is_known_at_its_stamp_only():
    only = Trajectory([START], [pose(0)])
    np.testing.assert_array_equal(only.at([START])[0], pose(0))
    with pytest.raises(ValueError, match="up to"):
        only.at([START + 1])


def test_between_moves_static_points_between_stamps():
    stands = np.array([[20.0, -3.0, 0.5]])
    then, now = (apply(inverse(pose(seconds)), apply(pose(0), stands)) for seconds in (0.13, 0.1))
    moved = trajectory().between(START + 130 * MILLISECOND, START + 100 * MILLISECOND)
    np.testing.assert_allclose(apply(moved, now), then, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 3, 4), (3, 4, 4)])
def test_number_of_poses_must_match_the_stamps(shape):
    with pytest.raises(ValueError, match="a trajectory has stamps"):
        Trajectory([START, START + 1], np.zeros(shape))


def test_deskewed_points_are_where_they_were_at_the_stamp(sweep):
    still, times, measured = sweep
    assert np.linalg.norm(measured - still, axis=1).max() > 1.5
    moved = deskew(measured, times, START, trajectory())
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, still, atol=2e-3)


def test_sweep_stamped_at_its_end_is_deskewed(sweep):
    still, times, measured = sweep
    end = START + 100 * MILLISECOND
    at_end = apply(inverse(pose(0.1)) @ pose(0), still)
    np.testing.assert_allclose(deskew(measured, times - 0.1, end, trajectory()), at_end, atol=2e-3)


def test_points_that_are_not_finite_keep_their_place(sweep):
    _, times, measured = sweep
    measured[7] = np.nan
    moved = deskew(measured, times, START, trajectory())
    assert np.isnan(moved[7]).all() and np.isfinite(np.delete(moved, 7, 0)).all()


def test_points_of_one_time_move_rigidly(sweep):
    still = sweep[0].astype(np.float32)
    times = np.full(len(still), 0.05)
    expected = apply(inverse(pose(0)) @ pose(0.05), still)
    np.testing.assert_allclose(deskew(still, times, START, trajectory()), expected, atol=2e-3)


def test_empty_cloud_is_deskewed_without_poses():
    assert deskew(np.zeros((0, 3), np.float32), np.zeros(0), 0, trajectory()).shape == (0, 3)


def test_sweep_beyond_the_trajectory_is_refused(sweep):
    _, times, measured = sweep
    with pytest.raises(ValueError, match="the vehicle's pose is known only up to"):
        deskew(measured, times, START + 300 * MILLISECOND + EXTRAPOLATION_NS, trajectory())


def test_poses_at_sweep_stamps_suffice_for_deskewing(sweep):
    still, times, measured = sweep
    stamps = sweep_stamps(START, times)
    assert START in stamps and stamps[0] <= START + times.min() * 1e9 and stamps[-1] >= START + times.max() * 1e9 - 1
    sampled = Trajectory(stamps, [pose((stamp - START) * 1e-9) for stamp in stamps])
    np.testing.assert_allclose(deskew(measured, times, START, sampled), still, atol=2e-3)
