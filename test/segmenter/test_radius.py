import pytest
import torch

from tttkd_ros.segmenter.radius import CellPoints, pairs_within, ranges, search_cells, search_trees
from tttkd_ros.segmenter.voxels import coarsen, means, voxelise

SEARCHES = [search_trees, search_cells]


def levels():
    """Two clouds in the same place, on a grid of 0.1 m and on one of 0.2 m."""
    torch.manual_seed(0)
    clouds = [torch.rand(300, 3), torch.rand(200, 3)]
    voxels = voxelise(clouds, 0.1, inputs=clouds)
    fine = CellPoints(voxels.inputs, voxels.indices.long(), 0.1)
    coarser = coarsen(voxels, 1)
    return fine, CellPoints(means(fine.xyz, coarser.row), coarser.indices.long(), 0.2)


def brute_force(queries, sources):
    distance = (queries.xyz[:, None].double() - sources.xyz.double()).norm(dim=2)
    same_cloud = queries.cells[:, None, 0] == sources.cells[:, 0]
    return set(map(tuple, torch.nonzero((distance <= 2 * sources.edge) & same_cloud).tolist()))


@pytest.mark.parametrize("search", SEARCHES)
def test_the_pairs_are_those_of_brute_force_within_each_cloud(search):
    fine, coarse = levels()
    for queries, sources in ((fine, fine), (coarse, coarse), (fine, coarse)):
        query, source = search(queries, sources)
        pairs = list(zip(query.tolist(), source.tolist(), strict=True))
        assert len(pairs) > len(queries)
        assert len(set(pairs)) == len(pairs)
        assert set(pairs) == brute_force(queries, sources)


def test_pairs_are_in_the_order_of_the_queries():
    fine, coarse = levels()
    query, _ = pairs_within(fine, coarse)
    assert (query.diff() >= 0).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_the_border_of_a_grid_pairs_no_points(search):
    # The last cells of one column and the first of the next have consecutive keys.
    cells = torch.tensor([[0, 0, 0, 4094], [0, 0, 1, 0], [0, 4094, 0, 0], [1, 0, 0, 0]])
    points = CellPoints(cells[:, 1:].float(), cells, 1.0)
    assert torch.equal(*search(points, points))


def test_ranges_are_joined():
    assert ranges(torch.tensor([5, 0, 9]), torch.tensor([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
