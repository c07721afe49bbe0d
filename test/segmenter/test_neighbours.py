import itertools

import pytest
import torch

from tttkd_ros.segmenter.neighbours import index_pairs
from tttkd_ros.segmenter.voxels import Voxels, voxelise


def offsets(kernel):
    reach = range(-(kernel // 2), kernel // 2 + 1)
    return list(itertools.product(reach, repeat=3))


OFFSETS = offsets(3)


def pairs_of(data, row, count):
    return {tuple(pair) for pair in data.indice_pairs[:, row, :count].T.tolist()}


def neighbours(indices, offset):
    """Find {(in, out)} with out + offset = in by brute force."""
    place = {tuple(index): number for number, index in enumerate(indices.tolist())}
    shifted = {out: (b, x + offset[0], y + offset[1], z + offset[2]) for (b, x, y, z), out in place.items()}
    return {(place[index], out) for out, index in shifted.items() if index in place}


@pytest.mark.parametrize(("key", "kernel"), [("level0", 3), ("stem", 5), ("stem", 7)])
def test_submanifold_pairs_are_the_neighbours_within_a_cloud(key, kernel):
    voxels = voxelise([torch.rand(200, 3), torch.rand(300, 3)], 0.1, multiple=2)
    data = index_pairs(voxels, 1, kernel)[key]
    last = kernel**3 - 1
    assert data.indice_pairs.shape == (2, last + 1, len(voxels))
    assert not data.indice_pair_num[last // 2 :].any()
    for row, offset in enumerate(offsets(kernel)[: last // 2]):
        count = int(data.indice_pair_num[row])
        assert pairs_of(data, row, count) == neighbours(voxels.indices, offset)
        assert pairs_of(data, last - row, count) == neighbours(voxels.indices, [-step for step in offset])


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
    indices = torch.tensor(
        [[0, 0, 0, 4095], [0, 0, 1, 0], [0, 0, 4095, 0], [0, 1, 0, 0], [0, 4095, 4095, 4095], [1, 0, 0, 0]],
        dtype=torch.int32,
    )
    voxels = Voxels(indices, torch.arange(6), [4096] * 3, 2)
    for kernel in (3, 5):
        data = index_pairs(voxels, 1, kernel)["stem"]
        assert {row: pairs_of(data, row, n) for row, n in enumerate(data.indice_pair_num.tolist()) if n} == {
            offsets(kernel).index((-1, 1, 0)): {(1, 3)}
        }
