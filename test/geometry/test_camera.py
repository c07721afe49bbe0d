import math

import cv2
import numpy as np
import pytest
import torch

from tttkd_ros.geometry.camera import CameraModel

FISHEYE = (0.05, -0.01, 0.004, -0.001)


def camera(distortion=(), model="plumb_bob", **changes):
    values = dict(width=1280, height=720, fx=610.0, fy=640.0, cx=655.0, cy=348.0) | changes
    return CameraModel(**values, distortion_model=model, distortion=tuple(distortion))


def posed_points(generator, count=2000):
    """World points around a camera of a random pose: points (N, 3), rotation vector, translation, points in camera."""
    rvec, tvec = generator.uniform(-2, 2, 3), generator.uniform(-1, 1, 3)
    points = generator.uniform(-10, 10, (count, 3))
    in_camera = points @ cv2.Rodrigues(rvec)[0].T + tvec
    return points, rvec, tvec, in_camera


@pytest.mark.parametrize("model, count", [("plumb_bob", 0), ("plumb_bob", 4), ("plumb_bob", 5),
                                          ("rational_polynomial", 8), ("rational_polynomial", 12)])
@pytest.mark.parametrize("seed", range(2))
def test_perspective_pixels_equal_opencvs(model, count, seed):
    generator = np.random.default_rng(seed)
    scale = np.array([0.3, 0.1, 0.005, 0.005, 0.05, 0.2, 0.05, 0.02,
                      0.02, 0.01, 0.02, 0.01])[:count]
    subject = camera(generator.uniform(-scale, scale), model)
    points, rvec, tvec, in_camera = posed_points(generator)
    expected, _ = cv2.projectPoints(points, rvec, tvec, subject.matrix, np.array(subject.distortion or [0.0] * 4))

    pixels, valid = subject.project(torch.from_numpy(in_camera))

    assert valid.sum() > 50
    np.testing.assert_allclose(pixels[valid], expected[:, 0][valid.numpy()], atol=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_fisheye_pixels_equal_opencvs(seed):
    generator = np.random.default_rng(seed)
    subject = camera(generator.uniform(-0.05, 0.05, 4), "equidistant", fx=300.0, fy=310.0)
    points, rvec, tvec, in_camera = posed_points(generator)
    expected, _ = cv2.fisheye.projectPoints(points[:, None], rvec, tvec, subject.matrix, np.array(subject.distortion))

    pixels, valid = subject.project(torch.from_numpy(in_camera))

    ahead = valid.numpy() & (in_camera[:, 2] > 0)  # OpenCV's fisheye takes no point from behind the lens
    assert ahead.sum() > 50
    np.testing.assert_allclose(pixels[ahead], expected[:, 0][ahead], atol=1e-6)


@pytest.mark.parametrize("model, distortion", [("plumb_bob", (-0.3, 0.08, 0.001, -0.001, 0.0)),
                                               ("rational_polynomial", (0.2, -0.1, 0, 0, 0.01, 0.5, -0.05, 0.02))])
def test_points_that_opencv_projects_into_the_image_are_valid(model, distortion):
    subject = camera(distortion, model)
    plane = np.random.default_rng(1).uniform(-0.8, 0.8, (4000, 2))  # inside both models' rising range
    points = np.column_stack((plane, np.ones(4000)))
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), subject.matrix, np.array(distortion))[0][:, 0]

    _, valid = subject.project(torch.from_numpy(points))

    inside = ((expected >= 0) & (expected < (subject.width, subject.height))).all(1)
    np.testing.assert_array_equal(valid, inside)


@pytest.mark.parametrize("distortion, name, message", [
    ((0.1, 0.2, 0.3), "plumb_bob", "plumb_bob takes 0 or 4 or 5 coefficients, got 3"),
    ((0.0,) * 5, "equidistant", "equidistant takes 4 coefficients, got 5"),
    ((0.0,) * 5, "rational_polynomial", "takes 8 or 12 coefficients, got 5"),
    ((), "double_sphere", "'double_sphere' is unknown"),
    ((math.inf, 0, 0, 0), "plumb_bob", "not all finite"),
])
def test_wrong_number_of_coefficients_is_refused(distortion, name, message):
    with pytest.raises(ValueError, match=message):
        camera(distortion, name)


@pytest.mark.parametrize("distortion", [(-0.3, 0.0, 0.0, 0.0), (-0.35, 0.1, 0.001, 0.001, -0.02)])
def test_wide_rays_do_not_fold_back_into_the_image(distortion):
    subject = camera(distortion)
    angles = torch.linspace(0, math.radians(89), 2000, dtype=torch.float64)
    points = torch.stack((angles.tan(), torch.zeros_like(angles), torch.ones_like(angles)), 1)
    folded = cv2.projectPoints(points.numpy(), np.zeros(3), np.zeros(3), subject.matrix, np.array(distortion))[0][:, 0]

    pixels, valid = subject.project(points)

    inside = ((folded >= 0) & (folded < (subject.width, subject.height))).all(1)
    assert inside.sum() > valid.sum(), "this distortion folds nothing back: the test would show nothing"
    u = pixels[valid, 0]
    assert (u.diff() > 0).all()
    assert valid[: len(u)].all()


def test_limit_is_where_the_derivative_of_the_polynomial_vanishes():
    wide = camera((-0.2, 0.0, 0.0, 0.0), fx=100.0, fy=100.0)  # r (1 - 0.2 r^2) turns at r = 1 / sqrt(0.6)
    assert wide.limit == pytest.approx(1 / math.sqrt(0.6), rel=2e-3)


def test_limit_is_below_a_pole_of_the_rational_model():
    subject = camera((0, 0, 0, 0, 0, -0.5, 0, 0), "rational_polynomial", fx=10.0, fy=10.0)  # pole at r = sqrt(2)
    beyond = torch.tensor([[-1.6, 0.0, 1.0], [0.9, 0.0, 1.0]])
    assert subject.limit <= math.sqrt(2)
    assert subject.project(beyond)[1].tolist() == [False, True]


def test_fisheye_projects_beyond_ninety_degrees():
    subject = camera((0.0, 0.0, 0.0, 0.0), "equidistant", fx=300.0, fy=300.0)
    angle = math.radians(100)
    pixels, valid = subject.project(torch.tensor([[5 * math.sin(angle), 0.0, 5 * math.cos(angle)]]))
    assert valid.item()
    assert pixels[0].tolist() == pytest.approx([655 + 300 * angle, 348], abs=1e-3)


@pytest.mark.parametrize("model, distortion", [("plumb_bob", ()), ("equidistant", FISHEYE)])
def test_the_axis_meets_the_principal_point(model, distortion):
    pixels, valid = camera(distortion, model).project(torch.tensor([[0.0, 0.0, 3.0]]))
    assert valid.item()
    assert pixels[0].tolist() == [655.0, 348.0]


@pytest.mark.parametrize("model, distortion", [("plumb_bob", ()), ("plumb_bob", (-0.3, 0.1, 0.001, 0.001, 0.0)),
                                               ("equidistant", FISHEYE)])
def test_points_behind_the_camera_or_not_finite_are_not_valid(model, distortion):
    nan, inf = math.nan, math.inf
    points = torch.tensor([[0.1, 0.1, -4.0], [0, 0, 0], [nan, 0, 1], [0, 0, nan], [inf, 0, 1], [-inf, inf, inf]])
    assert not camera(distortion, model).project(points)[1].any()


def test_empty_points_give_no_pixels():
    pixels, valid = camera().project(torch.empty(0, 3))
    assert pixels.shape == (0, 2)
    assert valid.shape == (0,)
