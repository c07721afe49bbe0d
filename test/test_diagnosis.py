"""What is message of clouds without labels, of cameras that see no point, and of steps that are all refused."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.diagnosis import explain_cameras, explain_range, explain_steps, explain_sweeps, explain_view
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import inverse

REACH = 200.0  # metres
CAMERA = CameraModel(640, 480, 400.0, 400.0, 320.0, 240.0)
OPTICAL = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # from x forward, y left, z up


def around(count=3000, seed=0):
    """A spinning LiDAR's: 4 to 60 m away, 2 m below to 3 m above it."""
    generator = np.random.default_rng(seed)
    angle, distance = generator.uniform(-np.pi, np.pi, count), generator.uniform(4, 60, count)
    height = generator.uniform(-2, 3, count)
    return np.column_stack([distance * np.cos(angle), distance * np.sin(angle), height]).astype(np.float32)


def ahead(count=3000):
    """A solid-state LiDAR's: 60 degrees wide."""
    points = around(4 * count)
    return points[np.abs(np.arctan2(points[:, 1], points[:, 0])) < np.pi / 6]


def placed(x, y, z, yaw=0.0):
    """(4, 4): LiDAR from a body (x forward) there, turned by `yaw` radians."""
    matrix = np.eye(4)
    matrix[:3, :3] = [[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]]
    matrix[:3, 3] = x, y, z
    return matrix


def seen_by(camera_from_lidar, points, frame_id="") -> Frame:
    view = View("front", 0, np.zeros((480, 640, 3), np.uint8), CAMERA, camera_from_lidar, frame_id)
    return Frame(0, points, (view,))


@pytest.mark.parametrize("points", [around(), ahead(), around() * 6, around() + np.float32([20, 0, 0]),
                                    np.empty((0, 3), np.float32)])
def test_cloud_in_metres_around_the_sensor_has_no_problem(points):
    assert explain_range(points, REACH) == ""


def test_points_without_return_are_ignored():
    points = around(1000)
    points[:950] = np.nan
    points[:500] = 0
    assert explain_range(points, REACH) == ""
    assert "0.0 % of the points are in range" in explain_range(1000 * points, REACH)


@pytest.mark.parametrize(
    "points", [1000 * around(), 1000 * ahead(), np.rint(np.random.default_rng(0).uniform(300, 480, (900, 3)))]
)
def test_millimetres_are_recognised(points):
    text = explain_range(points.astype(np.float32), REACH)
    assert "0.0 % of the points are in range (200 m from the sensor along each axis)" in text
    assert "millimetres: have the driver publish metres" in text


@pytest.mark.parametrize("origin", [(500, 300, 10), (-4000, 20, 0), (691_000, 5_335_000, 520)])
def test_points_in_the_map_frame_are_recognised(origin):
    text = explain_range(around() + np.float32(origin), REACH)
    assert "points in the map's frame" in text and "the sensor's own frame" in text


def test_other_points_out_of_range_are_reported_with_their_distance():
    assert "median distance is 3" in explain_range(1e6 * around(), REACH)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_cloud_without_return_is_reported(value):
    assert explain_range(np.full((50, 3), value, np.float32), REACH).startswith("no point has a return")


@pytest.mark.parametrize("place", [placed(0, 0, 0), placed(1.5, 0.2, -0.3), placed(0, 0.5, 0, 0.6)])
@pytest.mark.parametrize("points", [around(), ahead()])
def test_body_frame_instead_of_the_optical_one_is_recognised(place, points):
    text = explain_view(seen_by(inverse(place), points, "camera_link"), REACH)
    assert "front sees 0 of" in text and "camera frame 'camera_link' looks like a body frame" in text


@pytest.mark.parametrize("place", [placed(0, 0, 0.1), placed(1.5, 0.2, -0.3), placed(0.3, -0.5, 0, -0.3)])
def test_inverted_transform_is_recognised(place):
    assert "looks inverted" in explain_view(seen_by(inverse(OPTICAL @ inverse(place)), ahead()), REACH)


@pytest.mark.parametrize("millimetres", [(1500, 0, 20_000), (30_000, 500, 0), (800, -900, 2000)])
def test_camera_pose_in_millimetres_is_recognised(millimetres):
    text = explain_view(seen_by(OPTICAL @ inverse(placed(*millimetres)), around()), REACH)
    assert "looks like millimetres" in text


def test_view_without_known_cause_has_the_cameras_direction():
    text = explain_view(seen_by(OPTICAL @ inverse(placed(0, 0, 0.5, np.pi)), ahead()), REACH)
    assert "from (0.0, 0.0, 0.5) m, looking along (-1.0, 0.0, 0.0) in the LiDAR's frame: are its extrinsics" in text


def test_range_is_reported_before_the_extrinsics():
    assert "millimetres" in explain_view(seen_by(OPTICAL, 1000 * around()), REACH)


def test_frame_without_views_has_the_reason_of_each_camera():
    frame = replace(seen_by(OPTICAL, around()), views=(), missing={"left": "no image", "right": "too dark"})
    assert explain_view(frame, REACH) == "left: no image; right: too dark"


def steps(*reasons):
    """Of each reason a step, accepted if it is empty, rested if it is "enough"."""
    return [SimpleNamespace(accepted=not each, skipped=each == "enough", reason=each) for each in reasons]


def test_rejected_steps_are_reported_with_the_last_reason_of_each_kind():
    text = explain_steps(steps("", *(f"image {number} s late" for number in range(30)), "no image", "no image"))
    assert text == "32 of 33 steps were refused: 30 x image 29 s late; 2 x no image"


@pytest.mark.parametrize("taken", [(), ("", ""), ("", "no image", "no image"), ("enough",) * 9])
def test_steps_mostly_accepted_or_skipped_are_no_problem(taken):
    assert explain_steps(steps(*taken)) == ""


def test_fewer_steps_than_min_steps_are_not_reported():
    assert explain_steps(steps("no image"), min_steps=2) == ""
    assert explain_steps(steps("no image", "no image"), min_steps=2) == "2 of 2 steps were refused: no image"


@pytest.mark.parametrize(
    ("problems", "text"),
    [((), ""), (("", "a"), ""), (("", "a", "b"), "2 of 3 sweeps: b"), (("a",), "1 of 1 sweeps: a")],
)
def test_problem_of_most_sweeps_is_reported(problems, text):
    assert explain_sweeps(problems) == text


def test_camera_without_images_is_reported():
    missing = [{"left": "no image"}] * 19 + [{"right": "dark"}]
    assert explain_cameras(missing) == ["left has no image for 19 of 20 sweeps: no image"]
