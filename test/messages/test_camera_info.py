"""CameraInfo to camera models: the matrix, the part of the sensor and the frame that are used."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.messages.calibrated_camera import Calibration

K = np.array([[510.0, 0, 330], [0, 505.0, 250], [0, 0, 1]])
P = np.array([[420.0, 0, 310, 0], [0, 420.0, 236, 0], [0, 0, 1, 0]])
PLUMB = (-0.31, 0.12, 0.001, -0.002, 0.01)
RATIONAL = (*PLUMB, 0.2, -0.03, 0.004)
PRISM = (*RATIONAL, 0.002, -0.001, 0.003, 0.0005)
FISHEYE = (0.05, -0.01, 0.004, -0.001)


def info(**changes):
    """640x480, K and P as above, R the identity."""
    region = dict(zip(("x_offset", "y_offset", "width", "height"), changes.pop("roi", (0, 0, 0, 0)), strict=True))
    values = dict(width=640, height=480, k=K.ravel(), d=PLUMB, distortion_model="plumb_bob", r=np.eye(3).ravel(),
                  p=P.ravel(), binning_x=0, binning_y=0)
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="cam"), roi=SimpleNamespace(**region), **(values | changes)
    )  # fmt: skip


def numbers(model: CameraModel) -> tuple:
    return model.width, model.height, model.fx, model.fy, model.cx, model.cy


def test_raw_images_use_k_and_d():
    model = Calibration.read(info()).model(640, 480)
    assert model == CameraModel(640, 480, 510.0, 505.0, 330.0, 250.0, "plumb_bob", PLUMB)


def test_rectified_images_use_p_without_distortion():
    model = Calibration.read(info(), rectified=True).model(640, 480)
    assert model == CameraModel(640, 480, 420.0, 420.0, 310.0, 236.0)


@pytest.mark.parametrize("p", [np.zeros(12), np.diag([0, 0, 1.0, 0])[:3]])
def test_rectified_images_use_k_if_p_is_not_filled_in(p):
    model = Calibration.read(info(p=np.ravel(p)), rectified=True).model(640, 480)
    assert model == CameraModel(640, 480, 510.0, 505.0, 330.0, 250.0)


@pytest.mark.parametrize("fourth", [(-50.4, 0, 0), (0, -50.4, 0), (44.85728, 0.2163791, 0.002745884)])
@pytest.mark.parametrize("angle", [0.0, 0.02])
def test_points_project_as_p_says_and_as_k_does_after_r(fourth, angle):
    """The right camera of a stereo pair, one below the other, and KITTI's second camera."""
    p, r = P.copy(), Rotation.from_euler("y", angle).as_matrix()
    p[:, 3] = fourth
    message = info(p=p.ravel(), r=r.ravel(), d=())
    point = np.array([0.7, -0.4, 6.0, 1.0])

    rectified = Calibration.read(message, rectified=True)
    pixel, _ = rectified.model(640, 480).project(torch.from_numpy((rectified.optical_from_frame @ point)[None, :3]))
    u, v, w = p @ point
    np.testing.assert_allclose(pixel[0], (u / w, v / w), atol=1e-9)

    raw = Calibration.read(message)
    ray = np.linalg.inv(K) @ np.append(raw.model(640, 480).project(
        torch.from_numpy((raw.optical_from_frame @ point)[None, :3]))[0][0], 1)
    u, v, w = p[:, :3] @ r @ ray  # what image_proc makes of the raw pixel
    np.testing.assert_allclose((u / w, v / w), pixel[0], atol=1e-9)


def test_r_of_zeros_is_no_rotation():
    np.testing.assert_array_equal(Calibration.read(info(r=np.zeros(9))).optical_from_frame, np.eye(4))


@pytest.mark.parametrize("size, binning, roi, expected", [
    ((640, 480), (1, 1), (0, 0, 0, 0), (640, 480, 510, 505, 330, 250)),
    ((640, 480), (0, 0), (0, 0, 640, 480), (640, 480, 510, 505, 330, 250)),
    ((320, 240), (2, 2), (0, 0, 0, 0), (320, 240, 255, 252.5, 165, 125)),
    ((160, 480), (4, 1), (0, 0, 0, 0), (160, 480, 127.5, 505, 82.5, 250)),
    ((213, 160), (3, 3), (0, 0, 0, 0), (213, 160, 170, 505 / 3, 110, 250 / 3)),
    ((400, 200), (0, 0), (120, 90, 400, 200), (400, 200, 510, 505, 210, 160)),
    ((200, 100), (2, 2), (120, 90, 400, 200), (200, 100, 255, 252.5, 105, 80)),
    ((520, 390), (0, 0), (120, 90, 0, 0), (520, 390, 510, 505, 210, 160)),
])  # fmt: skip
def test_binning_and_region_of_interest_are_as_in_rep_104(size, binning, roi, expected):
    model = Calibration.read(info(binning_x=binning[0], binning_y=binning[1], roi=roi)).model(*size)
    assert numbers(model) == pytest.approx(expected)
    assert model.distortion == PLUMB


@pytest.mark.parametrize("size, binning, roi, expected", [
    ((640, 480), 2, (0, 0, 0, 0), (640, 480, 510, 505, 330, 250)),  # described as it is, and binned besides
    ((640, 480), 0, (120, 90, 400, 200), (640, 480, 510, 505, 330, 250)),  # the region is of interest, and not cut out
    ((320, 240), 2, (120, 90, 400, 200), (320, 240, 255, 252.5, 165, 125)),
    ((400, 200), 2, (120, 90, 400, 200), (400, 200, 510, 505, 210, 160)),
])  # fmt: skip
def test_image_size_decides_on_binning_and_region(size, binning, roi, expected):
    model = Calibration.read(info(binning_x=binning, binning_y=binning, roi=roi)).model(*size)
    assert numbers(model) == pytest.approx(expected)


def test_region_moves_the_principal_point_of_p_but_not_its_shift():
    p = P.copy()
    p[0, 3] = -50.4
    calibration = Calibration.read(info(p=p.ravel(), roi=(120, 90, 400, 200), binning_x=2, binning_y=2), rectified=True)
    assert numbers(calibration.model(200, 100)) == pytest.approx((200, 100, 210, 210, 95, 73))
    assert calibration.optical_from_frame[0, 3] == pytest.approx(-0.12)


@pytest.mark.parametrize("size, changes, message", [
    ((320, 240), {}, "image is 320x240, its CameraInfo allows 640x480: publish"),
    ((640, 481), dict(binning_x=2, binning_y=2), "allows 640x480 or 320x240: publish"),
    ((100, 100), dict(binning_x=2, binning_y=2, roi=(0, 0, 400, 200)),
     "allows 640x480 or 200x100 or 400x200 or 320x240: publish"),
    ((320, 240), dict(binning_x=2, binning_y=2, roi=(9, 9, 320, 240)), "both the region of interest .* and the whole"),
])
def test_image_size_that_fits_no_or_two_ways_is_refused(size, changes, message):
    with pytest.raises(ValueError, match=f"{message}.*give a rig file"):
        Calibration.read(info(**changes)).model(*size)


@pytest.mark.parametrize("name", ["plumb_bob", "rational_polynomial", "", "none", "pinhole", "radtan", "Brown Conrady"])
@pytest.mark.parametrize("d", [PLUMB[:4], PLUMB, RATIONAL, PRISM], ids=len)
@pytest.mark.parametrize("zeros", [0, 6])
def test_perspective_distortion_equals_opencvs(name, d, zeros):
    model = CameraModel.from_info(info(distortion_model=name, d=(*d, *[0.0] * zeros)))
    points = np.random.default_rng(len(d)).uniform((-0.4, -0.3, 1), (0.4, 0.3, 1), (200, 3))
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, np.array(d))[0][:, 0]
    np.testing.assert_allclose(model.project(torch.from_numpy(points))[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["equidistant", "fisheye", "Kannala-Brandt"])
@pytest.mark.parametrize("zeros", [0, 1, 4])
def test_fisheye_may_have_zeros_after_its_coefficients(name, zeros):
    model = CameraModel.from_info(info(distortion_model=name, d=(*FISHEYE, *[0.0] * zeros)))
    assert (model.distortion_model, model.distortion) == ("equidistant", FISHEYE)


@pytest.mark.parametrize("name, count", [("plumb_bob", 5), ("rational_polynomial", 8), ("plumb_bob", 14), ("", 0),
                                         ("rational_polynomial", 0), ("none", 1)])
def test_coefficients_of_zero_are_no_distortion(name, count):
    assert CameraModel.from_info(info(distortion_model=name, d=[0.0] * count)).distortion == ()


@pytest.mark.parametrize("name, d, message", [
    ("plumb_bob", (0.1, 0.2, 0.3), "'plumb_bob' has 3 coefficients .*expected 4 or 5 or 8 or 12"),
    ("rational_polynomial", (*PLUMB, 0.2), "has 6 coefficients"),
    ("equidistant", (*FISHEYE, 0.1), "'equidistant' has 5 coefficients .*expected 4, and only zeros"),
    ("equidistant", (), "has 0 coefficients"),
    ("rational_polynomial", (*PRISM, 0.01, 0.0), "tilt the sensor"),
    ("rational_polynomial", (*PRISM, 0.0, 0.01), "tilt the sensor"),
    ("double_sphere", (0.1, 0.2), "'double_sphere' is unknown"),
])
def test_unsupported_distortion_is_refused(name, d, message):
    with pytest.raises(ValueError, match=message):
        CameraModel.from_info(info(distortion_model=name, d=d))


@pytest.mark.parametrize("changes, message", [
    (dict(k=np.zeros(9)), "fx=0.0.*not calibrated"),
    (dict(k=np.zeros(9), p=np.zeros(12)), "fx=0.0"),
    (dict(k=[500.0, 0, 320, 0, -1, 240, 0, 0, 1]), "fy=-1"),
    (dict(k=[1.0] * 12), "k has 12 numbers, expected 9"),
    (dict(k=K.T.ravel()), "row by row"),
    (dict(k=[math.nan, *K.ravel()[1:]]), "k is .* not all finite"),
    (dict(d=[math.inf, 0, 0, 0]), "not all finite"),
    (dict(p=[math.nan] * 12), "p is .* not all finite"),
    (dict(p=[1.0] * 9), "p has 9 numbers, expected 12"),
    (dict(r=K.ravel()), "CameraInfo's r is .*no rotation.*identity"),
    (dict(width=0), "0x480"),
    (dict(height=2**70), "32 bits"),
])
def test_invalid_camera_info_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Calibration.read(info(**changes))


def test_a_rectified_camera_that_is_not_calibrated_is_refused():
    with pytest.raises(ValueError, match="fx=0.0"):
        Calibration.read(info(k=np.zeros(9), p=np.zeros(12)), rectified=True)
