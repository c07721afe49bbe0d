"""Camera corruptions: stronger from severity to severity, repeatable, and refused where there is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tttkd_ros.simulation.corruptions import KINDS, corrupt, trail
from tttkd_ros.simulation.drive import frames


@pytest.fixture(scope="module")
def image():
    (frame,) = frames("kitti", 5, 1)
    return frame.views[0].image


def corrupted(image, kind, severity, seed=0):
    return corrupt(image, kind, severity, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_each_severity_is_farther_from_the_image_than_the_last(kind, image):
    errors = [
        np.mean((corrupted(image, kind, severity).astype(float) - image) ** 2) for severity in range(1, 6)
    ]
    assert errors[0] > 1 and np.all(np.diff(errors) > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_is_repeatable_and_leaves_its_input(kind, image):
    before = image.copy()
    np.testing.assert_array_equal(corrupted(image, kind, 3), corrupted(image, kind, 3))
    np.testing.assert_array_equal(image, before)


def test_shot_noise_spares_the_mean():
    grey = np.full((100, 100, 3), 128, np.uint8)
    noisy = corrupted(grey, "shot-noise", 3)
    assert noisy.mean() == pytest.approx(128, abs=3)
    assert noisy.std() == pytest.approx(255 * np.sqrt(0.5 / 12), rel=0.1)  # Poisson's of 12 photons to white


def test_brightness_lifts_the_value():
    grey = np.full((4, 4, 3), 51, np.uint8)
    assert corrupted(grey, "brightness", 2).mean() == pytest.approx(102, abs=1)


def test_blur_takes_detail(image):
    detail = [cv2.Laplacian(picture, cv2.CV_64F).var() for picture in (image, corrupted(image, "motion-blur", 1))]
    assert detail[1] < 0.5 * detail[0]


def test_a_trail_goes_one_way_and_keeps_the_light():
    kernel = trail(10, 3, np.pi / 2)
    assert kernel.sum() == pytest.approx(1)
    assert (kernel[:11, 10] > 0).all() and not kernel[11:].any()


def test_an_unknown_kind_is_refused_by_name(image):
    with pytest.raises(ValueError, match="frost.*shot-noise"):
        corrupted(image, "frost", 1)


@pytest.mark.parametrize("severity", [0, 6, 2.5])
def test_a_severity_outside_1_to_5_is_refused(severity, image):
    with pytest.raises(ValueError, match=f"severity is {severity}"):
        corrupted(image, "jpeg", severity)
