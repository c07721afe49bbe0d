import numpy as np
import pytest
import torch

from tttkd_ros.segmenter.voxels import GRID, in_grid, unique, voxelise


def test_the_inverse_is_the_voxel_of_each_point():
    points = torch.tensor([[0.0, 0, 0], [0.05, 0.02, 0.09], [0.25, 0, 0], [0.05, 0.02, 0.09]])
    voxels = voxelise([points], 0.1)
    assert voxels.indices.tolist() == [[0, 0, 0, 0], [0, 2, 0, 0]]
    assert voxels.row.tolist() == [0, 0, 1, 0]


def test_a_shifted_cloud_has_the_same_voxels():
    points = torch.randint(0, 400, (500, 3)) / 16.0  # with the shift too, exact in float32
    shift = torch.tensor([12.5, -3.0, 1.75])
    assert torch.equal(voxelise([points], 0.25).indices, voxelise([points + shift], 0.25).indices)


def test_clouds_of_a_batch_have_their_own_voxels_and_empty_ones_count():
    a, b = torch.rand(50, 3), torch.rand(70, 3)
    voxels = voxelise([a, torch.empty(0, 3), b], 0.1)
    assert voxels.batch_size == 3
    assert set(voxels.indices[voxels.row[:50], 0].tolist()) == {0}
    assert set(voxels.indices[voxels.row[50:], 0].tolist()) == {2}


def test_the_spatial_shape_is_a_multiple():
    voxels = voxelise([torch.tensor([[0.0, 0, 0], [6.45, 0, 0.3]])], 0.1, multiple=64)
    assert voxels.spatial_shape == [128, 64, 64]


@pytest.mark.parametrize("clouds", [[], [torch.empty(0, 3)], [torch.empty(0, 3)] * 2])
def test_no_points_give_no_voxels(clouds):
    voxels = voxelise(clouds, 0.1)
    assert voxels.indices.shape == (0, 4)
    assert voxels.row.shape == (0,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_points_outside_a_grid_are_refused(value):
    points = torch.zeros(3, 3)
    points[1, 2] = value
    with pytest.raises(ValueError, match="apart"):
        voxelise([points], 0.1)


def test_in_grid_selects_what_voxelise_takes():
    limit = (GRID // 2 - 1) * 0.1
    points = torch.tensor([[limit * 0.999] * 3, [-limit * 0.999] * 3, [0, 0, limit * 1.001], [0, float("nan"), 0]])
    selected = in_grid(points, 0.1)
    assert selected.tolist() == [True, True, False, False]
    assert len(voxelise([points[selected]], 0.1).indices) == 2


def test_points_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(N, 3\)"):
        voxelise([torch.zeros(4, 2)], 0.1)


@pytest.mark.parametrize("largest", [1, 1000, 2**40, 2**62])  # the last leaves no room for a number beside a key
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_unique_is_numpys(size, largest):
    keys = np.random.default_rng(size).integers(0, largest, size)
    keys = np.concatenate([keys, keys[::2]])
    for found, expected in zip(unique(keys), np.unique(keys, return_inverse=True), strict=True):
        assert np.array_equal(found, expected)


def test_an_offset_moves_the_voxels():
    points = torch.tensor([[0.0, 0, 0], [0.75, 0, 0], [1.0, 0, 0]])
    assert voxelise([points], 1.0).row.tolist() == [0, 0, 1]
    moved = voxelise([points], 1.0, offsets=[torch.tensor([0.5, 2.0, 0.0])])
    assert moved.indices.tolist() == [[0, 0, 2, 0], [0, 1, 2, 0]] and moved.row.tolist() == [0, 1, 1]


def test_an_offset_ends_where_the_grid_ends():
    points = torch.tensor([[0.0, 0, 0], [GRID - 2.5, 0, 0]])
    voxels = voxelise([points], 1.0, offsets=[torch.full((3,), 10.0)])
    assert voxels.indices[:, 1].tolist() == [0, GRID - 2] and int(voxels.indices.max()) < GRID - 1
