import itertools

import torch

from tttkd_ros.segmenter.neighbours import index_pairs
from tttkd_ros.segmenter.voxels import Voxels, voxelise

OFFSETS = list(itertools.product((-1, 0, 1), repeat=3))


def pairs_of(data, row, count):
    return {tuple(pair) for pair in data.indice_pairs[:, row, :count].T.tolist()}


def neighbours(indices, offset):
    """Find {(in, out)} with out + offset = in by brute force."""
    place = {tuple(index): number for number, index in enumerate(indices.tolist())}
    shifted = {out: (b, x + offset[0], y + offset[1], z + offset[2]) for (b, x, y, z), out in place.items()}
    return {(place[index], out) for out, index in shifted.items() if index in place}


def test_submanifold_pairs_are_the_neighbours_within_a_cloud():
    voxels = voxelise([torch.rand(200, 3), torch.rand(300, 3)], 0.1, multiple=2)
    data = index_pairs(voxels, 1)["level0"]
    for row, offset in enumerate(OFFSETS[:13]):
        count = int(data.indice_pair_num[row])
        assert pairs_of(data, row, count) == neighbours(voxels.indices, offset)
        assert pairs_of(data, 26 - row, count) == neighbours(voxels.indices, OFFSETS[26 - row])


def test_strided_pairs_connect_each_voxel_with_its_coarse_one():
    voxels = voxelise([torch.rand(200, 3), torch.rand(300, 3)], 0.1, multiple=2)
    data = index_pairs(voxels, 2)["down0"]
    seen = []
    for corner in range(8):
        for fine, coarse in pairs_of(data, corner, int(data.indice_pair_num[corner])):
            batch, *cell = voxels.indices[fine].tolist()
            assert data.out_indices[coarse].tolist() == [batch, *(c // 2 for c in cell)]
            assert corner == sum(c % 2 * w for c, w in zip(cell, (4, 2, 1), strict=True))
            seen.append(fine)
    assert sorted(seen) == list(range(len(voxels.indices)))


def test_a_huge_grid_connects_no_voxels_that_are_far_apart():
    # With 4096 cells along y and z, 256 steps along x, or one batch, are a multiple of 2^32, where 32 bits overflow.
    indices = torch.tensor([[0, 0, 9, 9], [0, 257, 9, 9], [1, 1, 9, 9], [1, 2, 9, 9]], dtype=torch.int32)
    data = index_pairs(Voxels(indices, torch.arange(4), [4096] * 3, 2), 1)["level0"]
    assert data.indice_pair_num.sum() == 1
    assert pairs_of(data, OFFSETS.index((-1, 0, 0)), 1) == {(2, 3)}


def test_the_border_of_the_grid_connects_no_rows():
    indices = torch.tensor([[0, 0, 0, 4094], [0, 0, 1, 0], [0, 0, 4094, 0], [0, 1, 0, 0]], dtype=torch.int32)
    data = index_pairs(Voxels(indices, torch.arange(4), [4096] * 3, 1), 1)["level0"]
    assert {row: pairs_of(data, row, n) for row, n in enumerate(data.indice_pair_num.tolist()) if n} == {
        OFFSETS.index((-1, 1, 0)): {(1, 3)}
    }
