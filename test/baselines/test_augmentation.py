import pytest
import torch

from tttkd_ros.baselines.augmentation import strong_augmentation, weak_augmentation

POINTS = 10 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
augmentations = pytest.mark.parametrize("augment", [weak_augmentation, strong_augmentation])


def test_weak_augmentation_preserves_all_distances():
    for seed in range(8):
        augmented = weak_augmentation(POINTS, torch.Generator().manual_seed(seed))
        assert torch.allclose(torch.pdist(augmented), torch.pdist(POINTS), rtol=1e-4)


def test_strong_augmentation_preserves_distances_to_a_tenth():
    for seed in range(8):
        augmented = strong_augmentation(POINTS, torch.Generator().manual_seed(seed))
        ratio = torch.pdist(augmented) / torch.pdist(POINTS)
        assert 0.85 < ratio.min() < ratio.max() < 1.15


@augmentations
def test_z_stays_up(augment):
    height = augment(POINTS, torch.Generator().manual_seed(1))[:, 2]
    assert torch.corrcoef(torch.stack([height, POINTS[:, 2]]))[0, 1] > 0.999


@augmentations
def test_augmentations_differ_and_are_repeatable(augment):
    generator = torch.Generator().manual_seed(0)
    first, second = augment(POINTS, generator), augment(POINTS, generator)
    assert not torch.allclose(first, second)
    assert torch.equal(first, augment(POINTS, torch.Generator().manual_seed(0)))
