import torch

from tttkd_ros.adaptation.crop import crop
from tttkd_ros.adaptation.ttt_kd import Scene
from tttkd_ros.segmenter.points import Points


def scene(points, index):
    points, index = Points(torch.tensor(points)), torch.tensor(index)
    return Scene(points, index, torch.arange(len(index)), torch.rand(len(index), 3), (1, len(index)))


def test_points_beside_a_visible_one_stay_and_distant_ones_go():
    whole = scene([[0.1, 0, 0], [9.0, 0, 0], [0.9, 0.5, 0.5], [1.1, 0, 0], [-0.1, 0, 0]], [2])
    part = crop(whole, 1.0)
    assert part.points.xyz.tolist() == whole.points.xyz[[0, 2]].tolist()


def test_the_visible_points_stay_the_same():
    points = (10 * torch.rand(500, 3)).tolist()
    whole = scene(points, [3, 50, 51, 499])
    part = crop(whole, 2.5)
    assert torch.equal(part.points.xyz[part.index], whole.points.xyz[whole.index])
    assert len(part.index) < len(part.points) < 500
    assert part.patch is whole.patch and part.table is whole.table and not part.prepared


def test_large_cubes_keep_everything():
    whole = scene((10 * torch.rand(50, 3)).tolist(), [7])
    assert torch.equal(crop(whole, 100.0).points.xyz, whole.points.xyz)
