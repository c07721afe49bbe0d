"""Every augmentation keeps shapes, labels and correspondences."""

import numpy as np
import pytest
import torch

from tttkd_ros.features import estimate_normals
from tttkd_ros.segmenter.points import Points
from tttkd_ros.training.augmentation import Augmentation, Sample, augment, crop, draw_transform, drop, jitter, mixed

OPTIONS = {
    "xmuda": Augmentation(), "noise": Augmentation(0.1, 0, 0, 0), "rotation": Augmentation(0, 1, 0, 0),
    "flips": Augmentation(0, 0, 1, 1), "scale": Augmentation(0, 0, 0, 0, (0.9, 1.1)),
    "jitter": Augmentation(0, 0, 0, 0, jitter=0.005), "drop": Augmentation(0, 0, 0, 0, drop=0.3),
    "all": Augmentation(0.05, 0.5, 0.5, 0.5, (0.9, 1.1), 0.005, 0.2),
}


@pytest.fixture
def sample():
    """200 points. Each has its number as a feature, its label is that modulo 10, and its patch 7 times that."""
    generator = np.random.default_rng(0)
    number = torch.arange(200)
    visible = torch.from_numpy(np.flatnonzero(generator.random(200) < 0.5))
    xyz = torch.from_numpy(generator.normal(size=(200, 3))).float() * 10
    return Sample(Points(xyz, {"intensity": number[:, None] + 0.0}), number % 10, visible, 7 * visible)


def numbers(sample):
    return sample.points.features["intensity"][:, 0].long()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_labels_and_patches_stay_with_their_points(sample, options):
    moved = augment(sample, options, np.random.default_rng(1))
    assert torch.equal(moved.labels, numbers(moved) % 10)
    assert torch.equal(moved.patch, 7 * numbers(moved)[moved.visible])
    assert len(moved.visible) > 20
    kept = set(numbers(moved).tolist()) & set(sample.visible.tolist())
    assert set(numbers(moved)[moved.visible].tolist()) == kept
    assert len(moved.points) < 200 or not torch.equal(moved.points.xyz, sample.points.xyz)


def test_shapes_are_kept_but_for_noise_and_scale(sample):
    moved = augment(sample, Augmentation(0, 1, 0.5, 0.5), np.random.default_rng(1))
    assert torch.allclose(torch.pdist(moved.points.xyz), torch.pdist(sample.points.xyz), rtol=1e-4)
    scaled = augment(sample, Augmentation(0, 1, 0.5, 0.5, (1.1, 1.1)), np.random.default_rng(1))
    assert torch.allclose(torch.pdist(scaled.points.xyz), 1.1 * torch.pdist(sample.points.xyz), rtol=1e-4)
    noisy = augment(sample, Augmentation(), np.random.default_rng(1))
    ratio = torch.pdist(noisy.points.xyz) / torch.pdist(sample.points.xyz)
    assert 0.5 < ratio.min() < 0.95 * ratio.max() < 2


@pytest.mark.parametrize(("options", "expected"), [
    (Augmentation(0, 0, 1, 0), (-1, 1, 1)), (Augmentation(0, 0, 0, 1), (1, -1, 1)),
    (Augmentation(0, 0, 0, 0), (1, 1, 1)),
])
def test_flips_mirror_their_axis(options, expected):
    assert torch.equal(draw_transform(options, np.random.default_rng(0)), torch.diag(torch.tensor(expected)).float())


def test_jitter_is_cut_off(sample):
    moved = jitter(sample, 0.005, np.random.default_rng(0)).points.xyz - sample.points.xyz
    assert 0.004 < moved.std() < 0.006
    assert moved.abs().max() <= 0.0201
    assert jitter(sample, 1.0, np.random.default_rng(0)).points.xyz.sub(sample.points.xyz).abs().max() <= 4.001


def test_drop_leaves_out_its_share(sample):
    assert len(drop(sample, 0.25, np.random.default_rng(0)).points) == pytest.approx(150, abs=20)


def test_crop_keeps_the_points_in_the_box(sample):
    cropped = crop(sample, (-5, -6, -7, 5, 6, 7))
    inside = (sample.points.xyz.abs() <= torch.tensor([5.0, 6, 7])).all(1)
    assert torch.equal(cropped.points.xyz, sample.points.xyz[inside])
    assert torch.equal(cropped.patch, 7 * numbers(cropped)[cropped.visible])


def test_normals_turn_with_the_cloud():
    generator = np.random.default_rng(0)
    plane = np.column_stack([generator.uniform(-5, 5, (200, 2)), np.full(200, -2.0)]).astype(np.float32)
    values = {"normal": torch.from_numpy(estimate_normals(plane)), "intensity": torch.rand(200, 1)}
    nothing = torch.empty(0, dtype=torch.int64)
    sample = Sample(Points(torch.from_numpy(plane), values), torch.zeros(200), nothing, nothing)
    moved = augment(sample, Augmentation(), generator).points
    edges = moved.xyz[1:] - moved.xyz[:-1]
    assert (edges * moved.features["normal"][1:]).sum(1).abs().max() < 1e-3
    assert torch.allclose(moved.features["normal"].norm(dim=1), torch.ones(200), atol=1e-5)
    assert torch.equal(moved.features["intensity"], values["intensity"])


def test_mix3d_merges_neighbours():
    generator = np.random.default_rng(0)
    assert mixed([1, 2, 3, 4, 5], 1.0, generator) == [3, 7, 5]
    assert mixed([1, 2, 3, 4, 5], 0.0, generator) == [1, 2, 3, 4, 5]
    merged = sum(len(mixed([1, 1], 0.8, generator)) == 1 for _ in range(500))
    assert merged == pytest.approx(400, abs=40)


@pytest.mark.parametrize("options", [dict(flip_x=1.5), dict(drop=1.0), dict(jitter=-1), dict(scale=(1.1, 0.9))])
def test_bad_values_are_refused(options):
    with pytest.raises(ValueError, match=f"augmentation.{next(iter(options))} is .*expected"):
        Augmentation(**options)
