import numpy as np
import pytest
import torch

from tttkd_ros.teacher.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def test_pixels_are_rescaled_and_normalised_channel_by_channel():
    image = np.full((14, 28, 3), (10, 100, 200), np.uint8)
    pixels = Preprocessing()([image], (14, 28), "cpu")
    expected = (torch.tensor([10, 100, 200]) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert pixels.shape == (1, 3, 14, 28)
    torch.testing.assert_close(pixels[0, :, 3, 5], expected)


def test_imagenets_numbers_are_the_default():
    assert Preprocessing.from_config({}) == Preprocessing(IMAGENET_MEAN, IMAGENET_STD)


def test_the_numbers_of_the_configuration_are_used():
    config = dict(mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3], crop_pct=0.9)
    assert Preprocessing.from_config(config) == Preprocessing((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))


@pytest.mark.parametrize("config", [
    dict(mean=[0.5]), dict(std=[0, 1, 1]), dict(mean=[1e999] * 3), dict(std=[1e-320, 1, 1]), dict(mean=[[0.5] * 3] * 2),
    dict(mean=0.5), dict(mean="abc"), dict(std=[None] * 3), dict(std=["1"] * 3), dict(std=[10**400] * 3),
    dict(mean=[[0.5] * 3] * 3),
])
def test_numbers_that_give_no_pixels_are_refused(config):
    with pytest.raises(ValueError, match="its mean is .* and its std .*; expected three finite numbers"):
        Preprocessing.from_config(config)


@pytest.mark.parametrize("shape", [(280, 560, 3), (20, 30, 3), (280, 30, 3)])
def test_the_whole_image_fills_the_input(shape):
    ramp = np.broadcast_to(np.linspace(0, 255, shape[1])[None, :, None], shape).astype(np.uint8)
    row = Preprocessing((0,) * 3, (1,) * 3)([ramp], (70, 140), "cpu")[0, 0, 35]
    torch.testing.assert_close(row, torch.linspace(0, 1, 140), atol=0.03, rtol=0)


def test_shrinking_averages_fine_texture():
    stripes = np.zeros((280, 560, 3), np.uint8)
    stripes[:, ::2] = 200
    pixels = Preprocessing((0,) * 3, (1,) * 3)([stripes], (70, 140), "cpu")
    torch.testing.assert_close(pixels, torch.full_like(pixels, 100 / 255))


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
                                   np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)])
def test_an_array_that_is_no_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 RGB"):
        Preprocessing()([image], (14, 14), "cpu")
