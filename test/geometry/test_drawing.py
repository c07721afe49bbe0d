from __future__ import annotations

import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.frame import View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.drawing import draw_points

CAMERA = CameraModel(64, 32, 50.0, 50.0, 32.0, 16.0)


@pytest.fixture
def view():
    return View("front", 0, np.zeros((32, 64, 3), np.uint8), CAMERA, np.eye(4))


def test_a_point_is_drawn_on_its_pixel_in_its_colour(view):
    points = np.array([[0.2, -0.1, 1.0]], np.float32)  # 50 * 0.2 + 32 = 42, 50 * -0.1 + 16 = 11
    image = draw_points(view, points, OUTDOOR.palette[[3]])
    rows, columns = image.any(2).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 12, 41, 43)
    np.testing.assert_array_equal(image[11, 42], OUTDOOR.colours[3])
    assert not view.image.any()


def test_the_nearer_of_two_points_on_a_pixel_is_seen(view):
    for depths in ((1.0, 1.2), (1.2, 1.0)):
        points = np.array([[0, 0, depth] for depth in depths], np.float32)
        image = draw_points(view, points, OUTDOOR.palette[[0 if d == 1.0 else 1 for d in depths]])
        np.testing.assert_array_equal(image[16, 32], OUTDOOR.colours[0])


def test_points_out_of_view_and_not_finite_ones_leave_the_image_alone(view):
    points = np.array([[0, 0, -1], [9, 0, 1], [np.nan, 0, 1], [0, np.inf, 1]], np.float32)
    assert not draw_points(view, points, np.ones((4, 3), np.uint8)).any()


def test_without_points_the_image_stays(view):
    assert not draw_points(view, np.zeros((0, 3), np.float32), np.ones((0, 3), np.uint8)).any()
