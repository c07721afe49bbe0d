import json

import numpy as np
import pytest
import torch

from tttkd_ros.teacher.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def written(path, **config):
    path = path / "preprocessor_config.json"
    path.write_text(json.dumps(config))
    return path


def test_pixels_are_rescaled_and_normalised_channel_by_channel():
    image = np.full((14, 28, 3), (10, 100, 200), np.uint8)
    pixels = Preprocessing()([image], (14, 28), "cpu")
    expected = (torch.tensor([10, 100, 200]) / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    assert pixels.shape == (1, 3, 14, 28)
    torch.testing.assert_close(pixels[0, :, 3, 5], expected)


def test_imagenets_numbers_are_the_default(tmp_path):
    assert Preprocessing.from_file(None) == Preprocessing(IMAGENET_MEAN, IMAGENET_STD, 1 / 255)
    assert Preprocessing.from_file(written(tmp_path, size={"height": 3})) == Preprocessing()


def test_the_numbers_of_the_file_are_used(tmp_path):
    path = written(tmp_path, image_mean=[0.5, 0.4, 0.3], image_std=[0.1, 0.2, 0.3], rescale_factor=0.01)
    assert Preprocessing.from_file(path) == Preprocessing((0.5, 0.4, 0.3), (0.1, 0.2, 0.3), 0.01)


def test_a_file_can_disable_steps(tmp_path):
    path = written(tmp_path, do_normalize=False, do_rescale=False, image_mean=[0.5] * 3)
    assert Preprocessing.from_file(path) == Preprocessing((0.0,) * 3, (1.0,) * 3, 1.0)


@pytest.mark.parametrize("config", [
    dict(image_mean=[0.5]), dict(image_std=[0, 1, 1]), dict(rescale_factor=1e999), dict(image_std=[1e-320, 1, 1]),
    dict(image_mean=[[0.5] * 3] * 2),
])
def test_numbers_that_give_no_pixels_are_refused(tmp_path, config):
    with pytest.raises(ValueError, match="preprocessor_config.json.*expected three finite numbers"):
        Preprocessing.from_file(written(tmp_path, **config))


@pytest.mark.parametrize("shape", [(280, 560, 3), (20, 30, 3), (280, 30, 3)])
def test_the_whole_image_fills_the_input(shape):
    ramp = np.broadcast_to(np.linspace(0, 255, shape[1])[None, :, None], shape).astype(np.uint8)
    row = Preprocessing((0,) * 3, (1,) * 3, 1 / 255)([ramp], (70, 140), "cpu")[0, 0, 35]
    torch.testing.assert_close(row, torch.linspace(0, 1, 140), atol=0.03, rtol=0)


def test_shrinking_averages_fine_texture():
    stripes = np.zeros((280, 560, 3), np.uint8)
    stripes[:, ::2] = 200
    pixels = Preprocessing((0,) * 3, (1,) * 3, 1.0)([stripes], (70, 140), "cpu")
    assert pixels.min() == pixels.max() == 100


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8),
                                   np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)])
def test_an_array_that_is_no_rgb_image_is_refused(image):
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8 RGB"):
        Preprocessing()([image], (14, 14), "cpu")


@pytest.mark.parametrize("content", [
    "{", "null", "[]", "[" * 100_000, '{"image_mean": 0.5}', '{"image_mean": "abc"}',
    '{"image_std": [null, null, null]}', '{"rescale_factor": "1"}', '{"rescale_factor": 1%s}' % ("0" * 400),
])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(ValueError, match="preprocessor_config.json cannot be read.*fetch the file again"):
        Preprocessing.from_file(tmp_path / "preprocessor_config.json")
