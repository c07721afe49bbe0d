"""The simulated drive: repeatable, labelled truthfully, and calibrated."""

import numpy as np
import pytest
import torch

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.geometry.projection import project
from tttkd_ros.geometry.rig import load_rig
from tttkd_ros.paths import shipped_path
from tttkd_ros.simulation.drive import WORLDS, DriveProfile, drive, frames
from tttkd_ros.simulation.parts import LABEL_OF_PART
from tttkd_ros.simulation.sensors import Camera


@pytest.fixture(scope="module", params=WORLDS)
def world(request):
    """A world, with (frame, parts, depth) of each sweep of a drive in it."""
    return WORLDS[request.param], list(drive(request.param, 5, 8, DriveProfile(period=1.5)))


def test_the_same_seed_gives_the_same_drive():
    for first, second in zip(frames("kitti", 7, 2), frames("kitti", 7, 2), strict=True):
        np.testing.assert_array_equal(first.points, second.points)
        np.testing.assert_array_equal(first.labels, second.labels)
        np.testing.assert_array_equal(first.views[0].image, second.views[0].image)


def test_another_seed_gives_another_drive():
    (first,), (second,) = frames("kitti", 7, 1), frames("kitti", 8, 1)
    assert first.points.shape != second.points.shape or not np.array_equal(first.points, second.points)


def test_arrays_have_the_shapes_of_a_frame(world):
    for frame, _, _ in world[1]:
        count = len(frame.points)
        assert frame.points.dtype == np.float32 and frame.points.shape == (count, 3) and count > 1000
        assert frame.labels.dtype == np.uint8 and frame.labels.shape == (count,)
        assert frame.intensity.dtype == np.float32 and frame.intensity.shape == (count,)
        assert np.isfinite(frame.points).all()


def test_stamps_are_a_tenth_of_a_second_apart():
    stamps = [frame.stamp for frame in frames("a2d2", 1, 3)]
    assert np.diff(stamps).tolist() == [100_000_000] * 2


def test_every_class_occurs_and_every_point_has_one(world):
    labels = np.concatenate([frame.labels for frame, _, _ in world[1]])
    assert set(np.unique(labels)) == set(range(len(OUTDOOR)))


def test_the_road_lies_at_the_height_of_the_mount(world):
    for frame, _, _ in world[1]:
        road = frame.points[(frame.labels == OUTDOOR.names.index("road")) & (np.hypot(*frame.points[:, :2].T) < 15)]
        assert np.median(road[:, 2]) == pytest.approx(-world[0].lidar.height, abs=0.15)


def test_points_project_to_pixels_of_their_own_class(world):
    agreeing = total = 0
    for frame, (parts,), _ in world[1]:
        view = frame.views[0]
        projected = project(torch.from_numpy(frame.points), view.camera, view.camera_from_lidar)
        columns, rows = projected.pixels[projected.visible].long().T.numpy()
        labels = LABEL_OF_PART[parts[rows, columns]]
        agreeing += (labels == frame.labels[projected.visible.numpy()]).sum()
        total += len(labels)
    assert total > 5000
    assert agreeing / total > 0.9


def test_the_target_world_is_denser_than_the_source():
    counts = {name: len(next(frames(name, 2, 3)).points) for name in ("a2d2", "kitti")}
    assert counts["kitti"] > 2.5 * counts["a2d2"]


def test_the_demo_rig_is_the_simulated_camera():
    rig = load_rig(shipped_path("config/rigs/demo.yaml"))["camera_front"]
    np.testing.assert_allclose(rig.camera_from_lidar, Camera().camera_from_lidar, atol=1e-9)
    np.testing.assert_allclose(rig.camera.matrix, Camera().model.matrix)


def test_an_unknown_world_is_refused_by_name():
    with pytest.raises(ValueError, match="mars.*a2d2"):
        next(frames("mars", 0, 1))
