import pytest
import torch

from tttkd_ros.segmenter.curves import codes
from tttkd_ros.segmenter.serialisation import divide, serialise, submanifold_pairs
from tttkd_ros.segmenter.voxels import Voxels, voxelise


def cloud(count, *extent):
    return torch.rand(count, 3) * torch.tensor(extent)


def in_order(patches):
    """The voxels in their order, without those that a patch borrows."""
    return patches.rows[patches.place.sort().values]


def test_a_run_is_divided_and_the_last_patch_borrows():
    positions, shapes, places = divide([10], 4)
    assert positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9]
    assert shapes == [(3, 4)]
    assert places.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11]


def test_patches_hold_one_cloud_each():
    sizes = [4, 9, 0, 3, 1, 8]
    positions, shapes, places = divide(sizes, 4)
    assert shapes == [(4, 4), (1, 3), (1, 1), (2, 4)]
    assert torch.equal(positions[places], torch.arange(sum(sizes)))
    owner = torch.arange(6).repeat_interleave(torch.tensor(sizes))[positions]
    parts = owner.split([length for number, length in shapes for _ in range(number)])
    assert all(len(part.unique()) == 1 for part in parts)


def test_each_level_has_half_the_grid_and_its_voxels_in_the_order_of_the_curves():
    voxels = voxelise([cloud(900, 6.0, 5.0, 2.0)], 0.1, 8)
    depth = (int(voxels.indices[:, 1:].max()) + 1).bit_length()
    cells, levels = voxels.indices[:, 1:].long(), serialise(voxels, [1, 2], 50)
    for level, halvings in zip(levels, (1, 2, 0), strict=True):
        expected = codes(cells, torch.full((len(cells),), depth))
        assert all(torch.equal(in_order(patches), order)
                   for patches, order in zip(level.patches, expected.argsort(1), strict=True))
        if halvings:
            parents = torch.unique(cells >> halvings, dim=0)
            assert torch.equal(parents[level.parent], cells >> halvings)
            cells, depth = parents, depth - halvings
    assert levels[-1].parent is None


def test_the_order_of_a_cloud_does_not_depend_on_others():
    small, large = cloud(300, 2.0, 2.0, 2.0), cloud(300, 90.0, 9.0, 1.0)
    alone = serialise(voxelise([small], 0.1), [1], 64)
    both = serialise(voxelise([large, small], 0.1), [1], 64)
    for first, second in zip(alone, both, strict=True):
        for a, b in zip(first.patches, second.patches, strict=True):
            assert torch.equal(in_order(a), in_order(b)[-len(first):] - (len(second) - len(first)))


def test_halvings_beyond_the_cube_leave_one_cell_for_each_cloud():
    clouds = [torch.zeros(1, 3), torch.empty(0, 3), cloud(50, 0.2, 0.2, 0.2), torch.ones(1, 3)]
    level = serialise(voxelise(clouds, 0.1, 64), [3, 3], 8)[-1]
    assert len(level) == 3
    assert all(in_order(patches).tolist() == [0, 1, 2] for patches in level.patches)


def test_submanifold_pairs_are_those_of_the_kernel():
    voxels = voxelise([cloud(500, 1.0, 1.0, 1.0)], 0.1)
    pairs, counts = submanifold_pairs(voxels, 5)
    cells = voxels.indices[:, 1:]
    near = (cells[:, None] - cells).abs().amax(2) <= 2
    assert pairs.shape == (2, 125, len(cells))
    assert int(counts.sum()) == (int(near.sum()) - len(cells)) // 2


def test_too_many_clouds_are_refused():
    indices = torch.zeros(1, 4, dtype=torch.int32)
    with pytest.raises(ValueError, match="32769 clouds"):
        serialise(Voxels(indices, torch.zeros(1).long(), [8] * 3, 2**15 + 1), [], 8)
