"""Weather on a synthetic sweep and image: what it removes, what it adds, and that stronger weather does more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.frame import Frame, View
from tttkd_ros.simulation.effects import EffectContext
from tttkd_ros.simulation.sensors import LIDARS, Camera
from tttkd_ros.simulation.weather import darkness, fog, glare, rain

DEPTH = np.repeat(np.geomspace(2, 200, 392, dtype=np.float32)[None], 140, 0)
WEATHERS = {fog: (120, 80, 30), rain: (3, 15, 50)}  # weakest first


@pytest.fixture(scope="module")
def clear():
    """20,000 returns of one reflectivity at 2 to 45 m, and an image of bars whose depth grows from left to right."""
    generator = np.random.default_rng(0)
    rays = generator.normal((3, 0, 0), 1, (20_000, 3))
    rays /= np.linalg.norm(rays, axis=1)[:, None]
    points = (rays * generator.uniform(2, 45, (20_000, 1))).astype(np.float32)
    image = np.zeros((140, 392, 3), np.uint8)
    image[np.arange(140) // 4 % 2 == 0] = 160
    view = View("camera", 0, image, Camera().model, Camera().camera_from_lidar)
    labels = generator.integers(0, len(OUTDOOR), 20_000).astype(np.uint8)
    return Frame(0, points, (view,), {"intensity": np.full(20_000, 0.3, np.float32)}, labels)


def in_weather(frame, effect, strength, seed=1):
    context = EffectContext(LIDARS["kitti"], (DEPTH,), np.random.default_rng(7), np.random.default_rng(seed))
    return effect(frame, context, strength)


def ranges(frame, mask):
    return np.linalg.norm(frame.points[mask], axis=1)


def contrast(frame, columns):
    return np.ptp(frame.views[0].image[:, columns].mean((1, 2)))


@pytest.mark.parametrize("weather", WEATHERS)
def test_distant_returns_are_lost(weather, clear):
    max_range = [ranges(clear, clear.labels != UNLABELLED).max()]
    for strength in WEATHERS[weather]:
        frame = in_weather(clear, weather, strength)
        max_range.append(ranges(frame, frame.labels != UNLABELLED).max())
    assert np.all(np.diff(max_range) < -2)


@pytest.mark.parametrize("weather", WEATHERS)
def test_false_returns_are_close_unlabelled_and_grow_in_number(weather, clear):
    counts = []
    for strength in WEATHERS[weather]:
        frame = in_weather(clear, weather, strength)
        false = frame.labels == UNLABELLED
        assert np.median(ranges(frame, false)) < 4
        assert frame.intensity[false].max() <= 0.1
        counts.append(false.sum())
    assert 0 < counts[0] < counts[1] < counts[2]


def test_false_returns_are_in_front_of_the_true_ones(clear):
    bright = replace(clear, features={"intensity": np.full(20_000, 1e6, np.float32)})  # none is lost
    frame = in_weather(bright, fog, 80)
    false = frame.labels == UNLABELLED
    assert (ranges(frame, false) < ranges(bright, false)).all()
    np.testing.assert_array_equal(frame.labels[~false], clear.labels[~false])
    rays, clear_rays = (f.points / np.linalg.norm(f.points, axis=1)[:, None] for f in (frame, clear))
    np.testing.assert_allclose(rays, clear_rays, atol=1e-5)


@pytest.mark.parametrize(("weather", "strength"), [(fog, 80), (rain, 15)])
def test_intensity_falls_with_range(weather, strength, clear):
    frame = in_weather(clear, weather, strength)
    true = frame.labels != UNLABELLED
    order = np.argsort(ranges(frame, true))
    near, far = np.array_split(frame.intensity[true][order], 2)
    assert far.mean() < near.mean() < 0.3


def test_at_its_visibility_fog_leaves_a_twentieth_of_the_contrast(clear):
    columns = np.flatnonzero(np.abs(DEPTH[0] - 80) < 2)
    foggy = in_weather(clear, fog, 80)
    assert contrast(foggy, columns) / contrast(clear, columns) == pytest.approx(0.05, abs=0.01)
    assert contrast(foggy, slice(0, 5)) / contrast(clear, slice(0, 5)) > 0.9


def test_rain_leaves_streaks_that_are_taller_than_wide(clear):
    (view,) = clear.views
    dark = replace(clear, views=(replace(view, image=np.zeros_like(view.image)),))
    streaks = in_weather(dark, rain, 15).views[0].image[:, :100, 0].astype(float)  # close by: without the veil
    assert streaks.max() > 60
    assert np.abs(np.diff(streaks, axis=0)).mean() < 0.7 * np.abs(np.diff(streaks, axis=1)).mean()


def test_less_light_makes_a_darker_image(clear):
    means = [in_weather(clear, darkness, light).views[0].image.mean() for light in (1, 0.2, 0.03)]
    assert means[0] > 1.5 * means[1] > 3 * means[2] > 0


def test_darkness_is_noisy(clear):
    bright_rows = in_weather(clear, darkness, 0.03).views[0].image[:4].astype(float)
    assert bright_rows.std() / bright_rows.mean() > 0.03


def test_glare_stays_in_place_for_a_drive(clear):
    first, second = (in_weather(clear, glare, 0.5, seed).views[0].image for seed in (1, 2))
    np.testing.assert_array_equal(first, second)


def test_glare_saturates_a_part_and_veils_the_rest(clear):
    image = in_weather(clear, glare, 0.5).views[0].image
    assert 0.005 < (image[..., 0] == 255).mean() < 0.3
    assert (image >= clear.views[0].image).all() and image.min() > 25
