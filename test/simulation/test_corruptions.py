"""Camera corruptions: stronger with each severity, repeatable, and unknown kinds refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tttkd_ros.simulation.corruptions import KINDS, corrupt_images, motion_kernel
from tttkd_ros.simulation.drive import frames


@pytest.fixture(scope="module")
def image():
    (frame,) = frames("kitti", 5, 1)
    return frame.views[0].image


def corrupted(image, kind, severity):
    return KINDS[kind](image, severity - 1, np.random.default_rng(0))


@pytest.mark.parametrize("kind", KINDS)
def test_error_grows_with_severity(kind, image):
    errors = [
        np.mean((corrupted(image, kind, severity).astype(float) - image) ** 2) for severity in range(1, 6)
    ]
    assert errors[0] > 1 and np.all(np.diff(errors) > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_is_repeatable_and_does_not_change_its_input(kind, image):
    before = image.copy()
    np.testing.assert_array_equal(corrupted(image, kind, 3), corrupted(image, kind, 3))
    np.testing.assert_array_equal(image, before)


def test_shot_noise_keeps_the_mean():
    grey = np.full((100, 100, 3), 128, np.uint8)
    noisy = corrupted(grey, "shot-noise", 3)
    assert noisy.mean() == pytest.approx(128, abs=3)
    assert noisy.std() == pytest.approx(255 * np.sqrt(0.5 / 12), rel=0.1)  # Poisson, 12 photons for white


def test_brightness_raises_the_value():
    grey = np.full((4, 4, 3), 51, np.uint8)
    assert corrupted(grey, "brightness", 2).mean() == pytest.approx(102, abs=1)


def test_blur_removes_detail(image):
    detail = [cv2.Laplacian(pixels, cv2.CV_64F).var() for pixels in (image, corrupted(image, "motion-blur", 1))]
    assert detail[1] < 0.5 * detail[0]


def test_a_motion_kernel_points_in_one_direction_and_sums_to_one():
    kernel = motion_kernel(10, 3, np.pi / 2)
    assert kernel.sum() == pytest.approx(1)
    assert (kernel[:11, 10] > 0).all() and not kernel[11:].any()


@pytest.mark.parametrize(("kind", "severity"), [("frost", 1), ("jpeg", 0), ("jpeg", 6), ("jpeg", 2.5)])
def test_an_unknown_kind_or_severity_is_refused(kind, severity):
    with pytest.raises(ValueError, match=f"'{kind}' at severity {severity}, expected one of shot-noise.* from 1 to 5"):
        corrupt_images(None, None, kind, severity)
