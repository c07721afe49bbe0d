"""Camera corruptions: what each one does, and that it is repeatable."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tttkd_ros.simulation.drive import frames
from tttkd_ros.simulation.effects import CORRUPTIONS, motion_kernel


@pytest.fixture(scope="module")
def image():
    (frame,) = frames("kitti", 5, 1)
    return frame.views[0].image


def corrupted(image, kind):
    return CORRUPTIONS[kind](image, np.random.default_rng(0))


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_is_repeatable_and_does_not_change_its_input(kind, image):
    before = image.copy()
    np.testing.assert_array_equal(corrupted(image, kind), corrupted(image, kind))
    np.testing.assert_array_equal(image, before)


def test_shot_noise_counts_three_photons_for_white():
    noisy = corrupted(np.full((100, 100, 3), 128, np.uint8), "shot-noise")
    assert np.unique(noisy).tolist() == [0, 85, 170, 255]
    assert noisy.mean() == pytest.approx(120, abs=3)  # Poisson, clipped at white


def test_brightness_raises_the_value():
    assert corrupted(np.full((4, 4, 3), 51, np.uint8), "brightness").mean() == pytest.approx(178, abs=1)


def test_blur_removes_detail(image):
    detail = [cv2.Laplacian(pixels, cv2.CV_64F).var() for pixels in (image, corrupted(image, "motion-blur"))]
    assert detail[1] < 0.5 * detail[0]


def test_a_motion_kernel_points_in_one_direction_and_sums_to_one():
    kernel = motion_kernel(10, 3, np.pi / 2)
    assert kernel.sum() == pytest.approx(1)
    assert (kernel[:11, 10] > 0).all() and not kernel[11:].any()
