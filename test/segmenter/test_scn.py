import torch
from torch import nn

from tttkd_ros.segmenter.backbones import scn
from tttkd_ros.segmenter.voxels import voxelise


def network(channels=4, levels=3, repetitions=1):
    torch.manual_seed(0)
    return scn.Network(scn.Options(channels, levels, repetitions), 0, 0.1)


def test_the_default_has_the_size_of_xmudas():
    parameters = sum(parameter.numel() for parameter in network(16, 7).parameters())
    assert round(parameters / 1e6, 1) == 2.7


def test_prepared_pairs_give_the_result_of_spconvs_own(check_pairs):
    check_pairs(network().eval(), [torch.rand(300, 3) * 3, torch.rand(200, 3)])


def test_clouds_of_a_batch_are_independent():
    net = network().eval()
    a, b = torch.rand(300, 3) * 4, torch.rand(200, 3) * 2
    with torch.no_grad():
        both = voxelise([a, b], 0.1, multiple=4)
        alone = voxelise([b], 0.1, multiple=4)
        torch.testing.assert_close(net(both)[both.row[300:]], net(alone)[alone.row])


def test_a_cloud_of_one_layer_passes_all_levels():
    points = torch.rand(100, 3) * torch.tensor([5.0, 5.0, 0.0])
    voxels = voxelise([points], 0.1, multiple=64)
    assert network(4, 7).eval()(voxels).shape == (len(voxels.indices), 4)


def test_a_single_voxel_passes_all_levels():
    assert network(4, 7).eval()(voxelise([torch.zeros(1, 3)], 0.1, multiple=64)).isfinite().all()


def test_repetitions_add_convolutions():
    convolutions = [sum(isinstance(m, nn.Module) and hasattr(m, "indice_key") for m in network(4, 2, r).modules())
                    for r in (1, 2)]
    assert convolutions == [6, 9]


def test_no_convolution_has_a_bias():
    assert all(module.bias is None for module in network().modules() if hasattr(module, "indice_key"))
