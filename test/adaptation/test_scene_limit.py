import numpy as np
import pytest
import torch
from tttkd_ros.adaptation.scene_limit import Scene

from tttkd_ros.segmenter.voxels import in_grid
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.simulation.shifts import shifted_frames

VOXEL = 0.1


@pytest.fixture(scope="module")
def stopping():
    """Points of a drive that stands from its second to its fourth second."""
    return [frame.points for frame in frames("kitti", 7, 60, DriveProfile(stop=(2.0, 4.0)))]


@pytest.fixture(scope="module")
def sweep(stopping):
    return stopping[0]


def seen(*sweeps):
    """Steps counted, one a sweep, after each."""
    scene, counts = Scene(VOXEL), []
    for points in sweeps:
        points = torch.tensor(points)
        scene.look(points[in_grid(points, VOXEL)])
        scene.steps += 1
        scene.updates += 1
        assert scene.updates == scene.steps
        counts.append(scene.steps)
    return counts


def turned(points, degrees):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]], np.float32)


def test_a_vehicle_that_stands_sees_one_scene_whatever_drives_by(stopping):
    assert seen(*stopping[20:40]) == list(range(1, 21))


@pytest.mark.parametrize("stride", [1, 5])
def test_a_vehicle_that_drives_sees_another_every_few_metres(stopping, stride):
    assert max(seen(*stopping[:20:stride])) * stride <= 5


@pytest.mark.parametrize("shift", ["rain", "fog", "range-noise"])
def test_so_it_does_in_bad_weather(shift):
    assert max(seen(*(frame.points for frame in shifted_frames(shift, 7, 20)))) <= 5


def test_noise_and_lost_returns_make_no_other_scene(sweep):
    random = np.random.default_rng(0)
    noisy = [(sweep + random.normal(0, 0.03, sweep.shape)).astype(np.float32) for _ in range(3)]
    kept = [points[random.random(len(points)) > 0.3] for points in noisy]
    assert seen(sweep, *noisy, *kept) == [1, 2, 3, 4, 5, 6, 7]


def test_a_robot_that_turns_on_the_spot_sees_another(sweep):
    assert seen(sweep, turned(sweep, 1), turned(sweep, 30), turned(sweep, 60)) == [1, 2, 1, 1]


def test_an_empty_sweep_shows_no_scene(sweep):
    assert seen(sweep, sweep[:0], sweep) == [1, 2, 3]
    assert seen(sweep[:0], sweep, sweep) == [1, 1, 2]


def test_cells_are_as_much_larger_as_the_voxels_are(sweep):
    far, near = Scene(VOXEL), Scene(10 * VOXEL)
    for scene, scale in ((far, 1), (near, 10)):
        for points in (sweep, sweep + np.float32(1.0)):
            scene.look(torch.tensor(points * scale))
            scene.steps += 1
    assert far.steps == near.steps == 1
