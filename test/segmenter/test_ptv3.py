import copy

import pytest
import torch
from torch.nn.functional import conv3d

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.segmenter.backbones import ptv3
from tttkd_ros.segmenter.backbones.base import gradients_only
from tttkd_ros.segmenter.serialisation import Patches, divide, submanifold_pairs
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.voxels import voxelise

SMALL = dict(channels=(8, 16, 24), depths=(1, 2, 1), heads=(1, 2, 3), decoder_channels=(8, 16), decoder_depths=(2, 1),
             decoder_heads=(2, 2), strides=(2, 4), patch_size=32)


def network(inputs=0, **options):
    torch.manual_seed(0)
    net = ptv3.Network(ptv3.Options(**SMALL | options), inputs, 0.1)
    with torch.no_grad():  # as after a training, so that no branch is trivial
        for name, tensor in net.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.2)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
    return net.eval()


def features(net, *clouds):
    prepared = net.prepare(clouds)
    with torch.no_grad():
        return net(prepared)[prepared.row]


def meta(**options):
    with torch.device("meta"):
        return ptv3.Network(ptv3.Options(**options), 4, 0.05)


def test_the_default_has_the_size_of_the_published_network():
    assert sum(parameter.numel() for parameter in meta().parameters()) == 46_158_272


def test_clouds_of_a_batch_are_independent():
    net, sizes = network(), ((400, 4), (0, 1), (1, 1), (20, 1), (300, 40))
    clouds = [torch.rand(count, 3) * extent for count, extent in sizes]
    apart = [features(net, cloud) for cloud in clouds if len(cloud)]
    torch.testing.assert_close(features(net, *clouds), torch.cat(apart))


@pytest.mark.parametrize("clouds", [[], [torch.empty(0, 3)]])
def test_no_points_have_no_rows(clouds):
    assert len(network().prepare(clouds)) == 0


@pytest.mark.parametrize("extent", [(5.0, 5.0, 0.0), (5.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_flat_clouds_and_single_voxels_pass_all_levels(extent):
    found = features(network(), torch.rand(100, 3) * torch.tensor(extent))
    assert found.shape == (100, 8) and found.isfinite().all()


def test_the_gradient_reaches_every_parameter_in_adaptation():
    net = gradients_only(network(2))
    net(net.prepare([torch.rand(300, 3) * 3], [torch.rand(300, 2)])).square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in net.parameters())


def test_equal_input_has_equal_features_and_gradients_whatever_the_generator():
    def outcome():
        net = gradients_only(network())
        torch.seed()
        found = net(net.prepare([torch.linspace(0, 9, 900).view(300, 3).sin() * 3]))
        found.square().sum().backward()
        return [found, *(parameter.grad for parameter in net.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(outcome(), outcome(), strict=True))


def test_a_prepared_batch_serves_many_passes():
    net = network()
    prepared = net.prepare([torch.rand(200, 3) * 3])
    assert torch.equal(net(prepared), net(prepared))


def test_training_draws_orders_and_drops_branches_from_torchs_generator():
    points = torch.rand(200, 3) * 3

    def trained(seed, **options):
        net = network(**options).train()
        torch.manual_seed(seed)
        return net(net.prepare([points]))

    assert torch.equal(trained(1), trained(1))
    assert not torch.allclose(trained(1), trained(2))
    shuffled = [trained(seed, drop_path=0.0) for seed in (1, 2)]
    assert not torch.allclose(*shuffled)


def test_the_drop_rate_rises_to_the_last_block_of_either_way():
    net = meta(drop_path=0.26)
    down = [block.drop for stage in net.enc.values() for name, block in stage.items() if "block" in name]
    assert down == pytest.approx([0.02 * number for number in range(14)])
    up = [block.drop for stage in net.dec.values() for name, block in stage.items() if "block" in name]
    assert up == pytest.approx([0.26 * number / 7 for number in reversed(range(8))])


@pytest.mark.parametrize("column", [0, 1])
def test_every_input_is_used(column):
    net, points, inputs = network(2), torch.rand(200, 3) * 3, torch.rand(200, 2)
    changed = inputs.clone()
    changed[:, column] += 1
    with torch.no_grad():
        first, second = (net(net.prepare([points], [values])) for values in (inputs, changed))
    assert (first - second).abs().max() > 1e-3


def test_the_cell_is_the_product_of_the_strides():
    net = network()
    prepared = net.prepare([torch.tensor([[0.0, 0, 0], [0.75, 0, 0], [0.85, 0, 0]])])
    assert net.cell == 8
    assert net.coarse_cells(prepared) == len(prepared.levels[-1]) == 2


def test_attention_is_that_of_each_patch():
    torch.manual_seed(0)
    sizes, size = [70, 3, 0, 32, 33], 32
    attention = ptv3._Attention(12, 3)
    order = torch.cat([torch.randperm(count) + sum(sizes[:number]) for number, count in enumerate(sizes)])
    positions, shapes, places = divide(sizes, size)
    rows = torch.randn(sum(sizes), 12)
    with torch.no_grad():
        found = attention(rows, Patches(order[positions], shapes, torch.empty_like(order).scatter(0, order, places)))
        query, key, value = attention.qkv(rows).view(-1, 3, 3, 4).unbind(1)  # (voxels, heads, 4) each
        expected = torch.empty_like(rows)
        for run in order.split(sizes):
            for number, voxel in enumerate(run):
                start = number // size * size
                start = min(start, max(len(run) - size, 0))
                patch = run[start:start + size]
                for head in range(3):
                    weights = (key[patch, head] @ query[voxel, head] / 2).softmax(0)
                    expected[voxel, 4 * head:4 * head + 4] = weights @ value[patch, head]
        torch.testing.assert_close(found, attention.proj(expected))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("training", [False, True])
def test_a_convolution_is_the_dense_one_with_its_bias(kernel, training):
    voxels = voxelise([torch.rand(200, 3)], 0.125)
    convolution = ptv3._Convolution(2, 3, kernel, bias=True).train(training)
    rows, (x, y, z) = torch.randn(len(voxels), 2), voxels.indices.long().T[1:]
    dense = torch.zeros(2, 8, 8, 8)
    dense[:, x, y, z] = rows.T
    with torch.no_grad():
        found = convolution(rows, submanifold_pairs(voxels, kernel))
        expected = conv3d(dense, convolution.weight.permute(0, 4, 1, 2, 3), convolution.bias, padding=kernel // 2)
    torch.testing.assert_close(found, expected[:, x, y, z].T)


def test_pooling_takes_the_maximum_of_each_cell():
    pooling = ptv3._Pooling(3, 4).eval()
    rows, parent = torch.randn(6, 3), torch.tensor([1, 0, 1, 2, 0, 1])
    with torch.no_grad():
        projected = pooling.proj(rows)
        expected = torch.stack([projected[parent == cell].amax(0) for cell in range(3)])
        torch.testing.assert_close(pooling(rows, parent, 3), torch.nn.functional.gelu(pooling.norm(expected)))


def test_the_first_convolution_on_the_way_up_sees_the_skip_connection_alone():
    net, seen = network(), {}
    net.dec["dec0"]["up"].register_forward_hook(lambda module, given, found: seen.update(skip=found[0], sum=found[1]))
    net.dec["dec0"]["block0"].cpe[0].register_forward_hook(lambda module, given, found: seen.update(local=given[0]))
    features(net, torch.rand(200, 3) * 3)
    assert torch.equal(seen["local"], seen["skip"]) and not torch.equal(seen["local"], seen["sum"])


@pytest.mark.parametrize(("options", "message"), [
    (dict(channels=32), "channels"), (dict(channels=(8, 16)), "depths"), (dict(heads=(1, 2, 5)), "heads"),
    (dict(decoder_heads=(2, 3)), "decoder_heads"), (dict(strides=(2, 3)), "strides"), (dict(strides=(1, 2)), "strides"),
    (dict(strides=(2, 4096)), "strides"), (dict(depths=(1, 65, 1)), "depths"), (dict(patch_size=0), "patch_size"),
    (dict(drop_path=1.0), "drop_path"), (dict(drop_path=True), "drop_path"), (dict(mlp_ratio=1.5), "mlp_ratio"),
    (dict(decoder_channels=()), "decoder_channels"),
])
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=f"^{message} is"):
        ptv3.Options(**SMALL | options)


def published(**options):
    return {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in meta(**options).state_dict().items()
            } | {"class_head.weight": torch.empty(16, 64), "class_head.bias": torch.empty(16)}


def test_the_options_of_pointcepts_tensors_are_those_of_their_shapes():
    tensors = published(channels=(16, 32, 64), depths=(1, 3, 2), heads=(1, 2, 4), decoder_channels=(48, 32),
                        decoder_depths=(2, 1), decoder_heads=(3, 2), strides=(2, 2), mlp_ratio=2)
    options, renamed = ptv3.from_pointcept(tensors)
    assert renamed.keys() == tensors.keys()
    assert {name: value.shape for name, value in meta(**options).state_dict().items()} == {
        name: value.shape for name, value in tensors.items() if not name.startswith("class_head.")}
    assert options["heads"] == (1, 2, 4) and options["decoder_heads"] == (3, 2)


def test_the_tensors_have_pointcepts_names():
    assert {
        "embedding.stem.conv.weight", "embedding.stem.norm.running_var", "enc.enc0.block1.cpe.0.bias",
        "enc.enc0.block0.cpe.1.weight", "enc.enc0.block0.cpe.2.bias", "enc.enc1.down.proj.weight",
        "enc.enc1.down.norm.0.weight", "enc.enc4.block1.norm1.0.weight", "enc.enc3.block5.attn.qkv.bias",
        "enc.enc0.block0.attn.proj.weight", "enc.enc0.block0.norm2.0.bias", "enc.enc0.block0.mlp.0.fc1.weight",
        "dec.dec3.up.proj.0.weight", "dec.dec3.up.proj.1.running_mean", "dec.dec0.up.proj_skip.1.bias",
        "dec.dec0.block1.mlp.0.fc2.bias",
    } <= meta().state_dict().keys()


@pytest.mark.parametrize("missing", ["enc", "dec"])
def test_tensors_of_another_network_are_refused(missing):
    tensors = {name: tensor for name, tensor in published().items() if not name.startswith(missing)}
    with pytest.raises(ValueError, match="PT-v3m1"):
        ptv3.from_pointcept(tensors)


@pytest.mark.parametrize("shape", [(), (0,), (24,)])
def test_channels_without_a_number_of_heads_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        ptv3.from_pointcept(published() | {"enc.enc0.block0.norm1.0.weight": torch.empty(shape)})


@pytest.fixture(scope="module")
def ptv3_student():
    torch.manual_seed(0)
    config = StudentConfig(voxel_size=0.3, backbone="ptv3", options=SMALL, inputs={"position": 0.1}, head_width=8,
                           teacher_dim=6, teacher_name="toy")
    return Student(config).eval()


def test_a_step_of_adaptation_changes_every_parameter_alike_each_time(ptv3_student, teacher, make_frame):
    config = TTTConfig(stride=1, learning_rate=1.0, steps=1, rotations=1, guard=False)
    adapters = [OnlineTTTKD(copy.deepcopy(ptv3_student), teacher) for _ in range(2)]
    before = {name: value.clone() for name, value in adapters[0]._student.backbone.named_parameters()}
    assert all(adapter.step(make_frame(), config).accepted for adapter in adapters)
    first, second = (dict(adapter._student.backbone.named_parameters()) for adapter in adapters)
    assert not any(torch.equal(before[name], value) for name, value in first.items())
    assert all(torch.equal(first[name], value) for name, value in second.items())


@pytest.mark.parametrize("momentum", [0.0, 0.1])
def test_adaptation_lowers_the_loss(ptv3_student, teacher, make_frame, momentum):
    config = TTTConfig(stride=1, learning_rate=0.1, steps=1, rotations=2, guard=False, bn_momentum=momentum)
    adapter = OnlineTTTKD(copy.deepcopy(ptv3_student), teacher)
    losses = [adapter.step(make_frame(seed=seed), config).loss for seed in range(12)]
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.3
