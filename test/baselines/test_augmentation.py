import pytest
import torch

from tttkd_ros.baselines.augmentation import strong_augmentation, weak_augmentation
from tttkd_ros.segmenter.points import Points

POINTS = Points(10 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
augmentations = pytest.mark.parametrize("augment", [weak_augmentation, strong_augmentation])


def test_weak_augmentation_preserves_all_distances():
    for seed in range(8):
        augmented = weak_augmentation(POINTS, torch.Generator().manual_seed(seed), 1.6).points.xyz
        assert torch.allclose(torch.pdist(augmented), torch.pdist(POINTS.xyz), rtol=1e-4)


def test_strong_augmentation_preserves_distances_to_a_tenth():
    for seed in range(8):
        augmented = strong_augmentation(POINTS, torch.Generator().manual_seed(seed), 1.6).points.xyz
        ratio = torch.pdist(augmented) / torch.pdist(POINTS.xyz)
        assert 0.85 < ratio.min() < ratio.max() < 1.15


@augmentations
def test_z_stays_up(augment):
    height = augment(POINTS, torch.Generator().manual_seed(1), 1.6).points.xyz[:, 2]
    assert torch.corrcoef(torch.stack([height, POINTS.xyz[:, 2]]))[0, 1] > 0.999


@augmentations
def test_augmentations_differ_and_are_repeatable(augment):
    generator = torch.Generator().manual_seed(0)
    first, second = augment(POINTS, generator, 1.6), augment(POINTS, generator, 1.6)
    again = augment(POINTS, torch.Generator().manual_seed(0), 1.6)
    assert not torch.allclose(first.points.xyz, second.points.xyz)
    assert not torch.allclose(first.offset, second.offset)
    assert torch.equal(first.points.xyz, again.points.xyz)
    assert torch.equal(first.offset, again.offset)


@augmentations
def test_the_offset_distributes_the_points_to_other_voxels(augment, town):
    points = Points(torch.tensor(town.frame(0).points) / 4)  # so near that many share a voxel
    cloud = augment(points, torch.Generator().manual_seed(0), town.student.coarsest_cell)
    still, moved = (town.student.prepare(cloud.points, offsets).row for offsets in (None, [cloud.offset]))
    pairs = torch.unique(torch.stack([still, moved]), dim=1).shape[1]  # the same number if the points share the same
    assert pairs > 1.5 * max(still.max().item(), moved.max().item())


@augmentations
def test_offsets_cover_the_voxels_of_the_deepest_level(augment):
    generator = torch.Generator().manual_seed(0)
    offsets = torch.stack([augment(POINTS, generator, 1.6).offset for _ in range(50)])
    assert (offsets.amin(0) < 0.2).all()
    assert (offsets.amax(0) > 1.4).all()
    assert offsets.max() < 1.6
