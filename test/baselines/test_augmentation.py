import pytest
import torch

from tttkd_ros.baselines.augmentation import strong, weak

POINTS = 10 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0))


def test_weak_views_keep_all_distances():
    for seed in range(8):
        seen = weak(POINTS, torch.Generator().manual_seed(seed))
        assert torch.allclose(torch.pdist(seen), torch.pdist(POINTS), rtol=1e-4)


def test_strong_views_keep_distances_to_a_tenth():
    for seed in range(8):
        ratio = torch.pdist(strong(POINTS, torch.Generator().manual_seed(seed))) / torch.pdist(POINTS)
        assert 0.85 < ratio.min() < ratio.max() < 1.15


@pytest.mark.parametrize("view", [weak, strong])
def test_up_stays_up(view):
    height = view(POINTS, torch.Generator().manual_seed(1))[:, 2]
    assert torch.corrcoef(torch.stack([height, POINTS[:, 2]]))[0, 1] > 0.999


@pytest.mark.parametrize("view", [weak, strong])
def test_views_differ_and_are_repeatable(view):
    random = torch.Generator().manual_seed(0)
    first, second = view(POINTS, random), view(POINTS, random)
    assert not torch.allclose(first, second)
    assert torch.equal(first, view(POINTS, torch.Generator().manual_seed(0)))
