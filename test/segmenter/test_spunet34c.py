import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.segmenter.backbones import complete, spunet34c
from tttkd_ros.segmenter.backbones.base import gradients_only
from tttkd_ros.segmenter.sparse import CONVOLUTION, SparseConvolution, SparseConvTensor, SubMConv3d
from tttkd_ros.segmenter.student import Student, StudentConfig

SMALL = spunet34c.Options(4, (4, 6, 8, 5), (1, 2, 2, 1))


def network(options=SMALL, inputs=0):
    torch.manual_seed(0)
    return spunet34c.Network(options, inputs, 0.1)


def cloud(count=300, edge=3.0):
    return torch.rand(count, 3) * edge


def test_the_default_has_39_million_parameters():
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in network(spunet34c.Options(), 4).parameters())
    assert round(parameters / 1e6, 1) == 39.1


@pytest.mark.parametrize("options", [
    spunet34c.Options(3, (5, 2), (1, 3)), spunet34c.Options(2, (3, 4, 5, 6, 7, 8), (1, 1, 2, 1, 2, 1)),
])
def test_width_and_depth_are_free(options):
    net = network(options).eval()
    voxels = net.prepare([cloud()])
    assert net(voxels).shape == (len(voxels), options.channels[-1])
    assert net.cell == 2 ** (len(options.layers) // 2)


def test_clouds_of_a_batch_are_independent():
    net = network().eval()
    clouds = [cloud(), torch.empty(0, 3), cloud(200, 2)]
    with torch.no_grad():
        both, alone = net.prepare(clouds), net.prepare(clouds[2:])
        torch.testing.assert_close(net(both)[both.row[300:]], net(alone)[alone.row])


def test_prepared_pairs_give_the_result_of_spconvs_own(check_pairs):
    check_pairs(network().eval(), [cloud(), cloud(200, 1)])


def test_equal_input_gives_equal_output():
    net, points = network().eval(), cloud()
    with torch.no_grad():
        assert torch.equal(net(net.prepare([points])), net(net.prepare([points])))


def test_the_inputs_change_the_result():
    net, points = network(inputs=2).eval(), cloud()
    with torch.no_grad():
        first, second = (net(net.prepare([points], [values])) for values in (torch.rand(300, 2), torch.rand(300, 2)))
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("mode", [nn.Module.train, gradients_only])
def test_the_gradient_reaches_every_parameter(mode):
    net = mode(network())
    net(net.prepare([cloud()])).square().sum().backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("points", [
    torch.zeros(1, 3), torch.rand(100, 3) * torch.tensor([5.0, 5.0, 0.0]), torch.rand(100, 3) * 1e-3,
], ids=["one point", "flat", "one voxel"])
def test_small_and_flat_clouds_pass_all_stages(points):
    net = network(spunet34c.Options(2, (2,) * 12, (1,) * 12)).eval()
    voxels = net.prepare([points])
    assert net(voxels).shape == (len(voxels), 2)
    assert net(voxels).isfinite().all()


def test_coarse_cells_are_those_after_all_halvings():
    net = network()  # two stages: a cell has 4 voxels of 0.1 m
    assert net.coarse_cells(net.prepare([torch.tensor([[0.0, 0, 0], [0.35, 0, 0], [0.45, 0, 0], [2.0, 2, 2]])])) == 3


def test_no_convolution_has_a_bias():
    convolutions = [layer for layer in network().modules() if isinstance(layer, SparseConvolution)]
    assert len(convolutions) == 1 + 2 + 2 + 6 * 2
    assert all(layer.bias is None for layer in convolutions)


@pytest.mark.parametrize(("options", "message"), [
    ({"base_channels": 0}, "base_channels is 0"), ({"channels": 32}, "channels is 32"), ({"channels": []}, "channels"),
    ({"channels": [4, 4.5]}, "channels is"), ({"layers": [1, 1]}, "as many of both"),
    ({"channels": [4, 4, 4], "layers": [1, 1, 1]}, "an even number"), ({"layers": [1] * 7 + [65]}, "at most 64"),
    ({"channels": [1] * 26, "layers": [1] * 26}, "up to 24"), ({"levels": 3}, "no option levels"),
])
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        complete("spunet34c", options)


def test_a_1x1x1_convolution_of_pointcept_becomes_the_linear_layer_that_it_is():
    convolution = SubMConv3d(5, 3, 1, **CONVOLUTION)
    features = torch.rand(7, 5)
    voxels = network().prepare([cloud(7)])
    expected = convolution(SparseConvTensor(features, voxels.indices, voxels.spatial_shape, 1)).features
    tensors = network().state_dict() | {"enc.0.block0.proj.0.weight": convolution.weight}
    _, own = spunet34c.from_pointcept(tensors)
    torch.testing.assert_close(features @ own["enc.0.block0.proj.0.weight"].T, expected)


@pytest.mark.parametrize("options", [
    SMALL, spunet34c.Options(3, (5, 2), (1, 3)), spunet34c.Options(2, (3, 4, 5, 6, 7, 8), (1, 1, 2, 1, 3, 1)),
])
def test_the_options_are_inferred_from_the_shapes(options):
    inferred, own = spunet34c.from_pointcept(network(options).state_dict())
    assert inferred == dataclasses.asdict(options)
    assert own.keys() == network(options).state_dict().keys()


@pytest.mark.parametrize("lost", ["conv_input", "down.0", "enc.1", "up.1", "dec.0"])
def test_weights_of_another_network_are_refused(lost):
    tensors = {name: tensor for name, tensor in network().state_dict().items() if not name.startswith(lost)}
    with pytest.raises(ValueError, match="no weights of a SpUNet"):
        spunet34c.from_pointcept(tensors)


def test_a_student_of_it_adapts(teacher, make_frame):
    torch.manual_seed(0)
    student = Student(StudentConfig(voxel_size=0.3, backbone="spunet34c", options=dataclasses.asdict(SMALL),
                                    head_width=8, teacher_dim=6, teacher_name="toy")).train()
    with torch.no_grad():
        for norm in student.backbone.modules():
            if isinstance(norm, nn.BatchNorm1d):
                norm.momentum = 1.0
        student(torch.tensor(make_frame().points))  # running statistics as training would leave them
    adapter = OnlineTTTKD(student.eval(), teacher)
    config = TTTConfig(stride=1, learning_rate=1.0, steps=1, rotations=1, guard=False)
    reports = [adapter.step(make_frame(seed=seed), config) for seed in range(10)]
    assert all(report.accepted for report in reports)
    assert np.mean([report.loss for report in reports[-3:]]) < np.mean([report.loss for report in reports[:3]])
