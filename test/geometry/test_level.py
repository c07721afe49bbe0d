import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tttkd_ros.frame import Frame
from tttkd_ros.geometry.level import level


def base_from_lidar(*angles, order="xyz"):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler(order, angles, degrees=True).as_matrix()
    matrix[:3, 3] = 1.0, 2.0, 3.0
    return matrix


@pytest.mark.parametrize("angles", [(0, 25, 0), (-30, 0, 80), (180, 0, 0), (0, 180, 30), (-90, 0, -90), (10, 20, 30)])
def test_heights_are_those_of_the_base_frame_but_for_the_mount(angles):
    place = base_from_lidar(*angles)
    points = np.random.default_rng(0).uniform(-10, 10, (50, 3)).astype(np.float32)
    upright = Frame(0, points, level=level(place)).upright
    np.testing.assert_allclose(upright[:, 2], points @ place[2, :3], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(upright, axis=1), np.linalg.norm(points, axis=1), rtol=1e-5)
    assert np.linalg.det(level(place)) == pytest.approx(1)


@pytest.mark.parametrize("yaw", [0, 45, -170])
def test_a_level_sensor_keeps_its_points_to_the_bit(yaw):
    assert level(base_from_lidar(0, 0, yaw)) is None
    points = np.ones((3, 3), np.float32)
    assert Frame(0, points, level=None).upright is points


def test_the_heading_stays_under_a_small_tilt():
    turned = level(base_from_lidar(3, -4, 120)) @ [1.0, 0.0, 0.0]
    assert np.degrees(np.arctan2(turned[1], turned[0])) == pytest.approx(0, abs=1)
