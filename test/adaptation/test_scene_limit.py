import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.scene_limit import SceneLimit
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


def counted(*sweeps):
    """Return the count after each sweep, with one step per sweep."""
    scene, counts = SceneLimit(VOXEL), []
    for points in sweeps:
        points = torch.tensor(points)
        scene.observe(points[in_grid(points, VOXEL)])
        scene.steps += 1
        scene.bn_updates += 1
        assert scene.bn_updates == scene.steps
        counts.append(scene.steps)
    return counts


def rotated(points, degrees):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return points @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]], np.float32)


def test_a_standing_vehicle_sees_one_scene_despite_traffic(stopping):
    assert counted(*stopping[20:40]) == list(range(1, 21))


@pytest.mark.parametrize("stride", [1, 5])
def test_a_driving_vehicle_sees_a_new_scene_every_few_metres(stopping, stride):
    assert max(counted(*stopping[:20:stride])) * stride <= 5


@pytest.mark.parametrize("shift", ["rain", "fog", "range-noise"])
def test_a_driving_vehicle_sees_new_scenes_in_bad_weather(shift):
    assert max(counted(*(frame.points for frame in shifted_frames(shift, 7, 20)))) <= 5


def test_noise_and_lost_returns_keep_the_scene(sweep):
    generator = np.random.default_rng(0)
    noisy = [(sweep + generator.normal(0, 0.03, sweep.shape)).astype(np.float32) for _ in range(3)]
    thinned = [points[generator.random(len(points)) > 0.3] for points in noisy]
    assert counted(sweep, *noisy, *thinned) == [1, 2, 3, 4, 5, 6, 7]


def test_a_rotating_robot_sees_a_new_scene(sweep):
    assert counted(sweep, rotated(sweep, 1), rotated(sweep, 30), rotated(sweep, 60)) == [1, 2, 1, 1]


def test_an_empty_sweep_keeps_the_scene(sweep):
    assert counted(sweep, sweep[:0], sweep) == [1, 2, 3]
    assert counted(sweep[:0], sweep, sweep) == [1, 1, 2]


def test_cells_scale_with_the_voxels(sweep):
    far, near = SceneLimit(VOXEL), SceneLimit(10 * VOXEL)
    for scene, scale in ((far, 1), (near, 10)):
        for points in (sweep, sweep + np.float32(1.0)):
            scene.observe(torch.tensor(points * scale))
            scene.steps += 1
    assert far.steps == near.steps == 1
