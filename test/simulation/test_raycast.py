"""Ray casting: against known distances, and culled against unculled."""

import numpy as np
import pytest

from tttkd_ros.simulation.raycast import BOX, CYLINDER, ELLIPSOID, NOTHING, Solids, cast
from tttkd_ros.simulation.sensors import LIDARS, Camera


def make_solids(kind, centre, half, yaw):
    count = len(kind)
    return Solids(
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


def cast_one_ray(*solids) -> tuple[float, int]:
    """Distance and index of what a ray along x hits. solids: (kind, x of the centre, half size, yaw)."""
    kinds, x, halves, yaws = zip(*solids, strict=True)
    solids = make_solids(kinds, [(centre, 0, 0) for centre in x], halves, yaws)
    distance, hit = cast(OneRay(), np.eye(3), np.zeros(3), solids, 100)
    return float(distance[0, 0]), int(hit[0, 0])


@pytest.mark.parametrize("kind", [BOX, ELLIPSOID, CYLINDER])
def test_a_ray_hits_the_near_face(kind):
    assert cast_one_ray((kind, 10, (2, 1, 1), 0)) == (pytest.approx(8), 0)


def test_yaw_rotates_a_box():
    assert cast_one_ray((BOX, 10, (2, 1, 1), np.pi / 2))[0] == pytest.approx(9, abs=1e-4)


def test_the_nearer_of_two_solids_is_hit():
    assert cast_one_ray((BOX, 20, (1, 1, 1), 0), (BOX, 10, (1, 1, 1), 0))[1] == 1


def test_a_ray_that_hits_nothing_keeps_the_range_limit():
    assert cast_one_ray((ELLIPSOID, -10, (1, 1, 1), 0)) == (100, NOTHING)


class Unculled:
    def __init__(self, grid):
        self.directions = grid.directions

    def windows(self, corners):
        return np.tile([0, self.directions.shape[1], 0, self.directions.shape[2]], (len(corners), 1))


@pytest.mark.parametrize("grid", [*LIDARS.values(), Camera()], ids=[*LIDARS, "camera"])
def test_culling_loses_no_hit(grid):
    generator = np.random.default_rng(0)
    count = 150
    centre = generator.uniform((-10, -30, -3), (60, 30, 6), (count, 3))
    centre = centre[np.linalg.norm(centre, axis=1) > 6]  # none around the sensor
    kind, half = generator.integers(0, 3, len(centre)), generator.uniform(0.1, 3, centre.shape)
    scene = make_solids(kind, centre, half, generator.uniform(0, 6, len(centre)))
    rotation = np.eye(3) if not isinstance(grid, Camera) else Camera().camera_from_lidar[:3, :3].T
    culled = cast(grid, rotation, np.zeros(3), scene, 80)[1]
    unculled = cast(Unculled(grid), rotation, np.zeros(3), scene, 80)[1]
    assert (unculled != NOTHING).mean() > 0.2
    np.testing.assert_array_equal(culled, unculled)


@pytest.mark.parametrize("name", LIDARS)
def test_beams_are_found_by_direction(name):
    lidar = LIDARS[name]
    measured = lidar.directions * np.random.default_rng(0).uniform(2, 40, lidar.directions.shape[1:])
    expected = np.broadcast_to(np.arange(len(lidar.elevations))[:, None], measured.shape[1:])
    np.testing.assert_array_equal(lidar.beams(measured.reshape(3, -1).T), expected.ravel())
