"""Ray casting against distances known by hand, and culled casting against casting every ray."""

import numpy as np
import pytest

from tttkd_ros.simulation.raycast import BOX, CYLINDER, ELLIPSOID, NOTHING, Primitives, cast
from tttkd_ros.simulation.sensors import LIDARS, Camera


def solids(kind, centre, half, yaw):
    count = len(kind)
    return Primitives(
        np.array(kind),
        np.array(centre, np.float32),
        np.array(half, np.float32),
        np.array(yaw, np.float32),
        np.zeros(count, np.int16),
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.float32),
    )


class OneRay:
    directions = np.array([1.0, 0.0, 0.0], np.float32).reshape(3, 1, 1)

    def windows(self, corners):
        return np.tile([0, 1, 0, 1], (len(corners), 1))


@pytest.mark.parametrize("kind", [BOX, ELLIPSOID, CYLINDER])
def test_a_ray_meets_the_near_face(kind):
    reach, hit = cast(OneRay(), np.eye(3), np.zeros(3), solids([kind], [[10, 0, 0]], [[2, 1, 1]], [0]), 100)
    assert reach[0, 0] == pytest.approx(8)
    assert hit[0, 0] == 0


def test_turning_a_box_shows_its_other_side():
    reach, _ = cast(OneRay(), np.eye(3), np.zeros(3), solids([BOX], [[10, 0, 0]], [[2, 1, 1]], [np.pi / 2]), 100)
    assert reach[0, 0] == pytest.approx(9, abs=1e-4)


def test_the_nearer_of_two_solids_is_hit():
    _, hit = cast(
        OneRay(), np.eye(3), np.zeros(3), solids([BOX, BOX], [[20, 0, 0], [10, 0, 0]], [[1, 1, 1]] * 2, [0, 0]), 100
    )
    assert hit[0, 0] == 1


def test_a_ray_that_meets_nothing_keeps_the_range_limit():
    reach, hit = cast(OneRay(), np.eye(3), np.zeros(3), solids([ELLIPSOID], [[-10, 0, 0]], [[1, 1, 1]], [0]), 100)
    assert reach[0, 0] == 100
    assert hit[0, 0] == NOTHING


class Unculled:
    def __init__(self, grid):
        self.directions = grid.directions

    def windows(self, corners):
        return np.tile([0, self.directions.shape[1], 0, self.directions.shape[2]], (len(corners), 1))


@pytest.mark.parametrize("grid", [*LIDARS.values(), Camera()], ids=[*LIDARS, "camera"])
def test_culling_loses_no_hit(grid):
    rng = np.random.default_rng(0)
    count = 150
    centre = rng.uniform((-10, -30, -3), (60, 30, 6), (count, 3))
    centre = centre[np.linalg.norm(centre, axis=1) > 6]  # none around the sensor
    scene = solids(
        rng.integers(0, 3, len(centre)), centre, rng.uniform(0.1, 3, centre.shape), rng.uniform(0, 6, len(centre))
    )
    rotation = np.eye(3) if not isinstance(grid, Camera) else Camera().camera_from_lidar[:3, :3].T
    culled = cast(grid, rotation, np.zeros(3), scene, 80)[1]
    whole = cast(Unculled(grid), rotation, np.zeros(3), scene, 80)[1]
    assert (whole != NOTHING).mean() > 0.2
    np.testing.assert_array_equal(culled, whole)


@pytest.mark.parametrize("name", LIDARS)
def test_a_points_direction_tells_its_beam(name):
    lidar = LIDARS[name]
    measured = lidar.directions * np.random.default_rng(0).uniform(2, 40, lidar.directions.shape[1:])
    expected = np.broadcast_to(np.arange(len(lidar.elevations))[:, None], measured.shape[1:])
    np.testing.assert_array_equal(lidar.beams(measured.reshape(3, -1).T), expected.ravel())
