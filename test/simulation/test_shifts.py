"""Every named shift changes what its description says, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.cli.simulate import simulate
from tttkd_ros.evaluation.metrics import visible_points
from tttkd_ros.simulation.drive import frames
from tttkd_ros.simulation.ego_motion import Rolling
from tttkd_ros.simulation.layout import build
from tttkd_ros.simulation.parts import PART
from tttkd_ros.simulation.sensors import LIDARS
from tttkd_ros.simulation.shifts import GROUPS, SHIFTS, drive_seed, shifted_frames

SEED, SWEEPS = 5, 3
IMAGE_SHIFTS = (*GROUPS["camera"], "dark", "glare")
CLOUD_SHIFTS = ("beams-32", "beams-16", "range-noise", "dropout")


@cache
def shifted(name: str, seed: int = SEED) -> tuple:
    return tuple(shifted_frames(name, seed, SWEEPS))


@cache
def unshifted(name: str) -> tuple:
    """The drive of a shift in the `kitti` world, without the shift's effects."""
    return tuple(frames("kitti", drive_seed(name, SEED), SWEEPS))


def assert_same(first, second):
    for view, other in zip(first.views, second.views, strict=True):
        np.testing.assert_array_equal(view.image, other.image)
        np.testing.assert_array_equal(view.camera_from_lidar, other.camera_from_lidar)
    assert_same_cloud(first, second)


def assert_same_cloud(first, second):
    assert first.stamp == second.stamp
    for name in ("points", "intensity", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shift_gives_the_same_valid_frames_each_time(name):
    for frame, again in zip(shifted(name), shifted_frames(name, SEED, SWEEPS), strict=True):
        assert_same(frame, again)
        count = len(frame.points)
        assert count > 500
        assert frame.points.dtype == np.float32 and frame.points.shape == (count, 3)
        assert frame.intensity.dtype == np.float32 and frame.intensity.shape == (count,)
        assert frame.labels.dtype == np.uint8 and frame.labels.shape == (count,)
        assert np.isfinite(frame.points).all()
        for view in frame.views:
            assert view.image.dtype == np.uint8 and view.image.shape == (140, 392, 3)


@pytest.mark.parametrize(("name", "world"), [("source", "a2d2"), ("kitti", "kitti"), ("nuscenes", "nuscenes")])
def test_a_shift_without_effects_is_its_world(name, world):
    for frame, expected in zip(shifted(name), frames(world, drive_seed(name, SEED), SWEEPS), strict=True):
        assert_same(frame, expected)


@pytest.mark.parametrize(("name", "step"), [("beams-32", 2), ("beams-16", 4)])
def test_fewer_beams_are_a_subset(name, step):
    for sparse, dense in zip(shifted(name), unshifted(name), strict=True):
        beams = LIDARS["kitti"].beams(dense.points)
        assert len(np.unique(beams)) > 50
        mask = beams % step == 0
        assert len(np.unique(beams[mask])) <= 64 // step
        np.testing.assert_array_equal(sparse.points, dense.points[mask])
        np.testing.assert_array_equal(sparse.labels, dense.labels[mask])


@pytest.mark.parametrize(("name", "height"), [("mounted-low", 1.23), ("mounted-high", 2.33)])
def test_a_mount_moves_the_lidar_and_not_the_camera(name, height):
    (frame, *_), (other, *_) = shifted(name), shifted("kitti")
    road = (frame.labels == OUTDOOR.names.index("road")) & (np.hypot(*frame.points[:, :2].T) < 15)
    assert np.median(frame.points[road, 2]) == pytest.approx(-height, abs=0.1)
    camera, other_camera = (np.linalg.inv(f.views[0].camera_from_lidar) for f in (frame, other))
    assert camera[2, 3] + height == pytest.approx(other_camera[2, 3] + LIDARS["kitti"].height)


def test_range_noise_moves_points_along_their_rays():
    for noisy, exact in zip(shifted("range-noise"), unshifted("range-noise"), strict=True):
        ranges, exact_ranges = (np.linalg.norm(f.points, axis=1) for f in (noisy, exact))
        assert np.std(ranges - exact_ranges) == pytest.approx(0.05, rel=0.05)
        np.testing.assert_allclose(noisy.points / ranges[:, None], exact.points / exact_ranges[:, None], atol=1e-5)
        np.testing.assert_array_equal(noisy.labels, exact.labels)


def test_dropout_loses_half_of_the_points():
    for sparse, dense in zip(shifted("dropout"), unshifted("dropout"), strict=True):
        assert len(sparse.points) / len(dense.points) == pytest.approx(0.5, abs=0.03)
        assert set(map(bytes, sparse.points)) <= set(map(bytes, dense.points))


@pytest.mark.parametrize("name", CLOUD_SHIFTS)
def test_lidar_faults_leave_the_image(name):
    for frame, clean in zip(shifted(name), unshifted(name), strict=True):
        np.testing.assert_array_equal(frame.views[0].image, clean.views[0].image)


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_image_faults_leave_the_cloud_and_its_truth(name):
    for frame, clean in zip(shifted(name), unshifted(name), strict=True):
        assert_same_cloud(frame, clean)
        assert np.abs(frame.views[0].image.astype(int) - clean.views[0].image).mean() > 4


@pytest.mark.parametrize("degrees", [0.2, 0.5, 1, 2, 5])
def test_miscalibration_rotates_the_camera_by_its_angle_for_the_whole_drive(degrees):
    errors, name = [], f"miscalibrated-{degrees}"
    for frame, clean in zip(shifted(name), unshifted(name), strict=True):
        assert_same_cloud(frame, clean)
        np.testing.assert_array_equal(frame.views[0].image, clean.views[0].image)
        errors.append(frame.views[0].camera_from_lidar @ np.linalg.inv(clean.views[0].camera_from_lidar))
        assert np.degrees(np.arccos((np.trace(errors[-1][:3, :3]) - 1) / 2)) == pytest.approx(degrees, abs=1e-5)
        np.testing.assert_allclose(errors[-1][:, 3], (0, 0, 0, 1), atol=1e-12)
    assert (errors[0] == errors[1]).all() and (errors[0] == errors[2]).all()


def test_another_seed_miscalibrates_about_another_axis():
    first, second = (shifted("miscalibrated-5", seed)[0].views[0].camera_from_lidar for seed in (SEED, SEED + 1))
    assert np.abs(first - second).max() > 0.01


def test_a_lost_camera_sends_nothing_in_the_middle_third():
    assert [len(frame.views) for frame in shifted("camera-lost")] == [1, 0, 1]


def test_a_covered_lens_shows_almost_nothing_and_each_image_is_another():
    first, second = (shifted("camera-covered", seed)[1].views[0].image for seed in (SEED, SEED + 1))
    assert first.max() < 12 and first.std() > 1 and (first != second).any()


@pytest.mark.parametrize("name", ["clear-fog-clear", "day-dark-day", "beams-64-16-64", "camera-covered"])
def test_a_sequence_is_shifted_in_its_middle_third_only(name):
    first, middle, last = zip(shifted(name), unshifted(name), strict=True)
    assert_same(*first)
    assert_same(*last)
    (frame, clean), images = middle, [each.views[0].image for each in middle]
    assert len(frame.points) != len(clean.points) or (images[0] != images[1]).any()


def test_the_middle_of_a_sequence_is_its_shift():
    effects = {name: SHIFTS[name].middle_effects for name in ("clear-fog-clear", "day-dark-day", "beams-64-16-64")}
    assert list(effects.values()) == [SHIFTS[name].effects for name in ("fog", "dark", "beams-16")]


def test_the_first_and_last_parts_of_a_sequence_are_equally_long():
    shift = SHIFTS["clear-fog-clear"]
    assert [len(shift.effects_at(index, 8)) for index in range(8)] == [0, 0, 1, 1, 1, 1, 0, 0]


def solids(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Parts (M,) and half sizes (M, 3) of the solids within 200 m on a shift's street."""
    street = build(SHIFTS[name].world.style, 400.0, np.random.default_rng(1), 45.0)
    near = street.solids_near(200.0, time=0.0, max_distance=200.0, driving_time=0.0)
    return near.part, near.half


def test_large_vehicles_are_larger():
    (part, half), (kitti_part, kitti_half) = solids("large-vehicles"), solids("kitti")
    cars, kitti_cars = half[part == PART["car-body"], 0], kitti_half[kitti_part == PART["car-body"], 0]
    assert cars.max() > 1.1 * kitti_cars.max()
    trucks, kitti_trucks = (parts == PART["truck-cargo"] for parts in (part, kitti_part))
    assert trucks.sum() > 1.5 * kitti_trucks.sum()


def test_an_old_town_is_crowded_and_narrow():
    (part, _), (kitti_part, _) = solids("old-town"), solids("kitti")
    assert (part == PART["person-head"]).sum() > 1.5 * (kitti_part == PART["person-head"]).sum()
    assert (part == PART["wall"]).sum() > (kitti_part == PART["wall"]).sum()
    assert SHIFTS["old-town"].world.style.lane < SHIFTS["kitti"].world.style.lane


def test_a_suburb_is_the_sources_street_with_the_targets_sensors():
    world = SHIFTS["suburb"].world
    source, kitti = SHIFTS["source"].world, SHIFTS["kitti"].world
    assert (world.style, world.lidar) == (replace(source.style, palette=kitti.style.palette), kitti.lidar)


def test_no_two_shifts_share_a_cloud():
    clouds = {name: shifted(name)[0].points for name in SHIFTS}
    assert len({points[:100].tobytes() for points in clouds.values()}) == len(SHIFTS)


def test_four_cameras_see_all_around():
    frame, alone = shifted("four-cameras")[0], shifted("one-camera")[0]
    assert [view.name for view in frame.views] == ["camera_front", "camera_left", "camera_rear", "camera_right"]
    assert len(alone.views) == 1
    for each in (frame, alone):
        azimuth = np.arctan2(each.points[:, 1], each.points[:, 0])
        assert (np.histogram(azimuth, 12, (-np.pi, np.pi))[0] > 500).all()
    assert visible_points(frame).mean() > 2 * visible_points(alone).mean()


def test_a_rolling_sweep_in_fog_keeps_the_time_of_each_point():
    (foggy,) = shifted_frames("fog", SEED, 1, rolling=Rolling())
    azimuth = np.arctan2(foggy.points[:, 1], foggy.points[:, 0])
    assert (foggy.labels == UNLABELLED).any()
    assert np.corrcoef(azimuth, foggy.times)[0, 1] < -0.99


def test_a_recorded_shift_is_the_simulated_one(tmp_path):
    simulate(tmp_path / "bag", shift="fog", seed=SEED, sweeps=SWEEPS)
    for read, frame in zip(BagReader(tmp_path / "bag").frames(), shifted("fog"), strict=True):
        np.testing.assert_array_equal(read.points, frame.points)
        np.testing.assert_array_equal(read.labels, frame.labels)
        np.testing.assert_array_equal(read.views[0].image, frame.views[0].image)


def test_a_sequence_of_two_sweeps_is_refused():
    with pytest.raises(ValueError, match="sweeps is 2.*day-dark-day"):
        shifted_frames("day-dark-day", 0, 2)


def test_an_unknown_shift_is_refused_by_name():
    with pytest.raises(ValueError, match="hail.*beams-16"):
        shifted_frames("hail", 0, 1)
