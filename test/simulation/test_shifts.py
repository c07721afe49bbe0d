"""Every named shift does what its name says, and nothing else."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.cli.simulate import simulate
from tttkd_ros.simulation.drive import frames
from tttkd_ros.simulation.ego_motion import Rolling
from tttkd_ros.simulation.layout import build
from tttkd_ros.simulation.parts import PART
from tttkd_ros.simulation.sensors import LIDARS
from tttkd_ros.simulation.shifts import GROUPS, SHIFTS, shifted_frames

SEED, SWEEPS = 5, 3
ON_THE_IMAGE = (*GROUPS["camera"], "dark", "glare")
ON_THE_CLOUD = ("beams-32", "beams-16", "range-noise", "dropout")
IN_PARTS = {"clear-fog-clear": "fog", "day-dark-day": "dark", "beams-64-16-64": "beams-16"}


@cache
def driven(name: str, seed: int = SEED) -> tuple:
    return tuple(shifted_frames(name, seed, SWEEPS))


def assert_same(first, second):
    assert len(first.views) == len(second.views) == 1
    np.testing.assert_array_equal(first.views[0].image, second.views[0].image)
    np.testing.assert_array_equal(first.views[0].camera_from_lidar, second.views[0].camera_from_lidar)
    assert_same_cloud(first, second)


def assert_same_cloud(first, second):
    assert first.stamp == second.stamp
    for name in ("points", "intensity", "labels"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("name", SHIFTS)
def test_the_same_seed_gives_the_same_shifted_drive(name):
    for first, second in zip(driven(name), shifted_frames(name, SEED, SWEEPS), strict=True):
        assert_same(first, second)


@pytest.mark.parametrize("name", SHIFTS)
def test_a_shifted_frame_is_a_frame(name):
    for frame in driven(name):
        count = len(frame.points)
        assert count > 500
        assert frame.points.dtype == np.float32 and frame.points.shape == (count, 3)
        assert frame.intensity.dtype == np.float32 and frame.intensity.shape == (count,)
        assert frame.labels.dtype == np.uint8 and frame.labels.shape == (count,)
        assert np.isfinite(frame.points).all()
        assert frame.views[0].image.dtype == np.uint8 and frame.views[0].image.shape == (140, 392, 3)


@pytest.mark.parametrize(("name", "world"), [("source", "a2d2"), ("kitti", "kitti"), ("nuscenes", "nuscenes")])
def test_a_bare_world_is_driven_as_it_is(name, world):
    for shifted, frame in zip(driven(name), frames(world, SEED, SWEEPS), strict=True):
        assert_same(shifted, frame)


@pytest.mark.parametrize(("name", "step"), [("beams-32", 2), ("beams-16", 4)])
def test_fewer_beams_are_some_of_all(name, step):
    for fewer, whole in zip(driven(name), driven("kitti"), strict=True):
        beams = LIDARS["kitti"].beams(whole.points)
        assert len(np.unique(beams)) > 50
        kept = beams % step == 0
        assert len(np.unique(beams[kept])) <= 64 // step
        np.testing.assert_array_equal(fewer.points, whole.points[kept])
        np.testing.assert_array_equal(fewer.labels, whole.labels[kept])


@pytest.mark.parametrize(("name", "height"), [("mounted-low", 1.23), ("mounted-high", 2.33)])
def test_a_mount_moves_the_lidar_and_leaves_the_camera(name, height):
    (frame, *_), (usual, *_) = driven(name), driven("kitti")
    road = (frame.labels == OUTDOOR.names.index("road")) & (np.hypot(*frame.points[:, :2].T) < 15)
    assert np.median(frame.points[road, 2]) == pytest.approx(-height, abs=0.1)
    camera, usual_camera = (np.linalg.inv(f.views[0].camera_from_lidar) for f in (frame, usual))
    assert camera[2, 3] + height == pytest.approx(usual_camera[2, 3] + LIDARS["kitti"].height)


def test_range_noise_moves_points_along_their_rays():
    for noisy, usual in zip(driven("range-noise"), driven("kitti"), strict=True):
        ranges, usual_ranges = (np.linalg.norm(f.points, axis=1) for f in (noisy, usual))
        assert np.std(ranges - usual_ranges) == pytest.approx(0.05, rel=0.05)
        np.testing.assert_allclose(noisy.points / ranges[:, None], usual.points / usual_ranges[:, None], atol=1e-5)
        np.testing.assert_array_equal(noisy.labels, usual.labels)


def test_dropout_loses_half():
    for fewer, whole in zip(driven("dropout"), driven("kitti"), strict=True):
        assert len(fewer.points) / len(whole.points) == pytest.approx(0.5, abs=0.03)
        assert set(map(bytes, fewer.points)) <= set(map(bytes, whole.points))


@pytest.mark.parametrize("name", ON_THE_CLOUD)
def test_what_is_wrong_with_a_lidar_leaves_the_image(name):
    for shifted, usual in zip(driven(name), driven("kitti"), strict=True):
        np.testing.assert_array_equal(shifted.views[0].image, usual.views[0].image)


@pytest.mark.parametrize("name", ON_THE_IMAGE)
def test_what_is_wrong_with_an_image_leaves_the_cloud_and_its_truth(name):
    for shifted, usual in zip(driven(name), driven("kitti"), strict=True):
        assert_same_cloud(shifted, usual)
        assert np.abs(shifted.views[0].image.astype(int) - usual.views[0].image).mean() > 4


@pytest.mark.parametrize("degrees", [0.2, 0.5, 1, 2, 5])
def test_miscalibration_turns_the_camera_by_exactly_its_angle_for_the_whole_drive(degrees):
    errors = []
    for shifted, usual in zip(driven(f"miscalibrated-{degrees}"), driven("kitti"), strict=True):
        assert_same_cloud(shifted, usual)
        np.testing.assert_array_equal(shifted.views[0].image, usual.views[0].image)
        errors.append(shifted.views[0].camera_from_lidar @ np.linalg.inv(usual.views[0].camera_from_lidar))
        assert np.degrees(np.arccos((np.trace(errors[-1][:3, :3]) - 1) / 2)) == pytest.approx(degrees, abs=1e-5)
        np.testing.assert_allclose(errors[-1][:, 3], (0, 0, 0, 1), atol=1e-12)
    assert (errors[0] == errors[1]).all() and (errors[0] == errors[2]).all()


def test_another_drive_is_miscalibrated_about_another_axis():
    first, second = (driven("miscalibrated-5", seed)[0].views[0].camera_from_lidar for seed in (SEED, SEED + 1))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.parametrize(("name", "between"), IN_PARTS.items())
def test_a_sequence_is_shifted_in_its_middle_third_only(name, between):
    for index, frame in enumerate(driven(name)):
        assert_same(frame, driven(between if index == 1 else "kitti")[index])


def test_a_sequences_outer_parts_are_equally_long():
    shift = SHIFTS["clear-fog-clear"]
    assert [len(shift.at(index, 8)) for index in range(8)] == [0, 0, 1, 1, 1, 1, 0, 0]


def solids(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Parts (M,) and half sizes (M, 3) of what stands within 200 m of a shift's street."""
    street = build(SHIFTS[name].world.style, 400.0, np.random.default_rng(1), 45.0)
    near = street.primitives(200.0, 0.0, 200.0, 0.0)
    return near.part, near.half


def test_large_vehicles_are_larger():
    (part, half), (usual_part, usual_half) = solids("large-vehicles"), solids("kitti")
    cars, usual_cars = half[part == PART["car-body"], 0], usual_half[usual_part == PART["car-body"], 0]
    assert cars.max() > 1.1 * usual_cars.max()
    trucks, usual_trucks = (parts == PART["truck-cargo"] for parts in (part, usual_part))
    assert trucks.sum() > 1.5 * usual_trucks.sum()


def test_an_old_town_is_crowded_and_narrow():
    (part, _), (usual_part, _) = solids("old-town"), solids("kitti")
    assert (part == PART["person-head"]).sum() > 1.5 * (usual_part == PART["person-head"]).sum()
    assert (part == PART["wall"]).sum() > (usual_part == PART["wall"]).sum()
    assert SHIFTS["old-town"].world.style.lane < SHIFTS["kitti"].world.style.lane


def test_a_suburb_is_the_sources_street_seen_by_the_targets_sensors():
    world = SHIFTS["suburb"].world
    assert (world.style, world.lidar) == (SHIFTS["source"].world.style, SHIFTS["kitti"].world.lidar)


def test_a_rolling_sweep_in_fog_keeps_the_time_of_each_point():
    (foggy,) = shifted_frames("fog", SEED, 1, rolling=Rolling())
    azimuth = np.arctan2(foggy.points[:, 1], foggy.points[:, 0])
    assert (foggy.labels == UNLABELLED).any()
    assert np.corrcoef(azimuth, foggy.times)[0, 1] < -0.99


def test_a_recorded_shift_is_the_simulated_one(tmp_path):
    simulate(tmp_path / "bag", shift="fog", seed=SEED, sweeps=2)
    for read, frame in zip(BagReader(tmp_path / "bag").frames(), shifted_frames("fog", SEED, 2), strict=True):
        np.testing.assert_array_equal(read.points, frame.points)
        np.testing.assert_array_equal(read.labels, frame.labels)
        np.testing.assert_array_equal(read.views[0].image, frame.views[0].image)


def test_a_shift_and_a_world_are_refused_together(tmp_path):
    with pytest.raises(ValueError, match="world 'a2d2' and shift 'fog'"):
        simulate(tmp_path / "bag", world="a2d2", shift="fog")
    assert not (tmp_path / "bag").exists()


def test_a_sequence_of_two_sweeps_is_refused():
    with pytest.raises(ValueError, match="sweeps is 2.*day-dark-day"):
        shifted_frames("day-dark-day", 0, 2)


def test_an_unknown_shift_is_refused_by_name():
    with pytest.raises(ValueError, match="hail.*beams-16"):
        shifted_frames("hail", 0, 1)
