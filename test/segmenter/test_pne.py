"""PNE's network against loops over points and kernel points, and what every backbone has to keep to."""

import copy
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import nn

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.baselines.adacontrast import AdaContrast
from tttkd_ros.baselines.dua import Dua
from tttkd_ros.segmenter.backbones import pne
from tttkd_ros.segmenter.backbones.base import gradients_only
from tttkd_ros.segmenter.checkpoint import load_student, save_student
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student, StudentConfig

OPTIONS = dict(stem=3, widths=(4, 6), blocks=1, decoder_blocks=1, head=5)
STEP = TTTConfig(stride=1, learning_rate=1.0, steps=1, rotations=1, guard=False)


def network(inputs=0, voxel_size=0.2, **options):
    """A small network in eval mode whose residual branches and norms count, unlike those of a new one."""
    torch.manual_seed(0)
    net = pne.Network(pne.Options(**OPTIONS | options), inputs, voxel_size).eval()
    with torch.no_grad():
        for name, tensor in net.state_dict(keep_vars=True).items():
            if name.endswith("scale") or "scales" in name:
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_var", "outputs_per_neighbour")):
                tensor.uniform_(0.05, 0.2)
            elif name.endswith(("running_mean", "bias")):
                tensor.uniform_(-0.2, 0.2)
    return net


def naive_levels(net, cloud, values):
    """Points (M, 3) of each level, values (M, C) of the first, and the row of each point."""
    values = np.concatenate([np.ones((len(cloud), 1)), values], 1)
    cells = np.floor((cloud - cloud.min(0)) / net.voxel_size).astype(int)
    levels, rows = [], None
    for _ in range(len(net.encoder) + 1):
        members = defaultdict(list)
        for number, cell in enumerate(map(tuple, cells)):
            members[cell].append(number)
        order = sorted(members)
        if rows is None:
            rows = [order.index(tuple(cell)) for cell in cells]
            values = np.stack([values[members[cell]].mean(0) for cell in order])
        cloud = np.stack([cloud[members[cell]].mean(0) for cell in order])
        levels.append(cloud)
        cells = np.array(order) // 2
    return levels, values, rows


def naive_convolution(net, convolution, features, sources, outputs, radius, scale):
    basis, bias = (tensor.detach().double().numpy() for tensor in (convolution.basis.weight, convolution.basis.bias))
    weight = convolution.weight.detach().double().numpy()
    result = np.zeros((len(outputs), weight.shape[2]))
    for i, x in enumerate(outputs):
        for j, y in enumerate(sources):
            if np.linalg.norm(y - x) > radius:
                continue
            correlations = [
                np.exp(-np.sum(((y - x) / radius - point) ** 2) / (2 * 0.3**2)) for point in net.kernel_points.numpy()
            ]
            for b in range(16):
                phi = bias[b] + sum(basis[b, k] * correlations[k] for k in range(13))
                result[i] += phi * (features[j] @ weight[b])
    return result * float(scale)


def naive_forward(net, cloud, values):
    """Features (N, channels) of one cloud, level by level in loops."""
    levels, x, rows = naive_levels(net, cloud, values)
    edges = [net.voxel_size * 2**level for level in range(len(levels))]
    within, down, up = net.outputs_per_neighbour

    def convolve(convolution, features, source, output):
        kind = within[output - 1] if source == output else down[source] if source < output else up[output]
        return naive_convolution(net, convolution, features, levels[source], levels[output], 2 * edges[source], kind)

    def apply(module, features):
        return copy.deepcopy(module).double()(torch.from_numpy(features)).detach().numpy()

    def block(module, features, level):
        branch = convolve(module.convolution.convolution, apply(module.convolution.norm, features), level, level)
        features = features + module.convolution_scale.detach().numpy() * branch
        return features + module.perceptron_scale.detach().numpy() * apply(module.perceptron, features)

    x = apply(net.stem_activations[0], convolve(net.stem[0], x, 0, 1))
    x = apply(net.entry, apply(net.stem_activations[1], convolve(net.stem[1], x, 1, 1)))
    skips = []
    for level in range(1, len(levels)):
        if level > 1:
            x = convolve(net.down[level - 2].convolution, apply(net.down[level - 2].norm, x), level - 1, level)
        for module in net.encoder[level - 1]:
            x = block(module, x, level)
        skips.append(x)
    for level in reversed(range(1, len(levels) - 1)):
        layer = net.up[level - 1]
        x = convolve(layer.convolution, apply(layer.norm, x), level + 1, level)
        x = skips[level - 1] + net.up_scales[level - 1].detach().numpy() * x
        for module in net.decoder[level - 1]:
            x = block(module, x, level)
    x = apply(net.activation, convolve(net.head.convolution, apply(net.head.norm, x), 1, 0))
    return x[rows]


def clouds_and_inputs(inputs=2):
    generator = np.random.default_rng(0)
    clouds = [generator.uniform(0, 1.2, (60, 3)), generator.uniform(-1, 0, (40, 3))]
    return clouds, [generator.normal(size=(len(cloud), inputs)) for cloud in clouds]


def tensors(arrays):
    return [torch.from_numpy(array).float() for array in arrays]


def features(net, *clouds):
    with torch.no_grad():
        prepared = net.prepare(clouds)
        return net(prepared)[prepared.row]


def test_the_network_computes_what_loops_do():
    net = network(inputs=2)
    clouds, inputs = clouds_and_inputs()
    prepared = net.prepare(tensors(clouds), tensors(inputs))
    with torch.no_grad():
        found = net(prepared)[prepared.row]
    expected = np.concatenate([naive_forward(net, *pair) for pair in zip(clouds, inputs, strict=True)])
    assert expected.std(0).min() > 0.02
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=2e-5)


def test_the_gradient_of_the_sums_is_that_of_finite_differences():
    hood = network().prepare(tensors(clouds_and_inputs()[0]))
    for each in (hood.within[0], hood.down[1], hood.up[1]):
        each = pne.Neighbourhood(each.output, each.source, each.weights.double(), each.outputs, each.sources)
        rows = torch.randn(each.sources * pne.ROWS, 1, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda rows, each=each: pne._WeightedSum.apply(rows, each), rows,
                                        fast_mode=True)


def test_the_kernel_points_are_an_icosahedrons_corners_and_its_centre():
    points = network().kernel_points
    assert points[:12].norm(dim=1).tolist() == pytest.approx([0.6] * 12)
    assert points[12].tolist() == [0, 0, 0]
    nearest = torch.cdist(points[:12], points[:12]).sort(1).values[:, 1:6]
    assert nearest.flatten().tolist() == pytest.approx([0.6 / np.sin(2 * np.pi / 5)] * 60, rel=1e-4)


def test_the_seed_rotates_the_kernel_points():
    first, again = network().kernel_points, network().kernel_points
    assert torch.equal(first, again)
    torch.manual_seed(1)
    assert not torch.allclose(first, pne.Network(pne.Options(**OPTIONS), 0, 0.2).kernel_points, atol=0.01)


def test_the_default_has_the_sources_widths():
    with torch.device("meta"):
        net = pne.Network(pne.Options(), 0, 0.1)
    assert net.channels == 128 and net.cell == 32
    assert [block[0].convolution_scale.shape[0] for block in net.encoder] == [64, 128, 192, 256, 320]
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 1) == 19.3


@pytest.mark.parametrize("bad", [
    dict(widths=()), dict(widths=16), dict(widths=(8,) * 13), dict(widths=(8, 0)), dict(blocks=0), dict(blocks=65),
    dict(decoder_blocks=-1), dict(decoder_blocks=False), dict(stem=1.5), dict(head=None),
])
def test_a_bad_option_is_named(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        StudentConfig(backbone="pne", options=bad)


def test_a_cloud_alone_and_in_a_batch_has_the_same_features():
    net, (first, second) = network(), tensors(clouds_and_inputs()[0])
    together = features(net, first, torch.empty(0, 3), second)
    torch.testing.assert_close(together, torch.cat([features(net, first), features(net, second)]))


@pytest.mark.parametrize("cloud", [
    torch.zeros(1, 3), torch.zeros(5, 3), torch.rand(80, 3) * torch.tensor([3.0, 3.0, 0.0]),
    torch.rand(50, 3) * torch.tensor([5.0, 0.0, 0.0]), torch.tensor([[0.0, 0, 0], [300, 300, 30]]),
], ids=["one point", "one place", "flat", "line", "far apart"])
def test_degenerate_clouds_have_finite_features(cloud):
    found = features(network(), cloud)
    assert found.shape == (len(cloud), 5) and found.isfinite().all()


def test_clouds_without_points_have_no_rows():
    prepared = network().prepare([torch.empty(0, 3)] * 2)
    assert len(prepared) == 0 and prepared.row.shape == (0,)


def test_no_absolute_position_reaches_the_network():
    net, points = network(voxel_size=0.25), torch.randint(0, 40, (100, 3)) / 16.0
    torch.testing.assert_close(features(net, points), features(net, points + torch.tensor([4.0, -2.0, 1.5])))


def test_an_offset_moves_the_grid():
    net, points = network(), torch.tensor([[0.0, 0, 0], [0.15, 0, 0]])
    assert net.prepare([points]).row.tolist() == [0, 0]
    assert net.prepare([points], offsets=[torch.full((3,), 0.1)]).row.tolist() == [0, 1]


def test_the_coarsest_cells_are_counted():
    net = network()
    assert net.coarse_cells(net.prepare([torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [9.0, 0, 0]])])) == 2


def test_every_input_counts():
    net = network(inputs=2)
    clouds, inputs = map(tensors, clouds_and_inputs())
    with torch.no_grad():
        before = net(net.prepare(clouds, inputs))
        for column in range(2):
            other = [values.clone() for values in inputs]
            other[0][:, column] += 1
            assert not torch.allclose(net(net.prepare(clouds, other)), before, atol=1e-3)


def test_a_prepared_batch_serves_many_passes_with_the_same_result():
    net, points = network(), tensors(clouds_and_inputs()[0])
    prepared = net.prepare(points)
    first, second = net(prepared), net(prepared)
    assert torch.equal(first, second)
    assert torch.equal(first, net(net.prepare(points)))
    first.sum().backward()
    second.sum().backward()  # the second pass has a graph of its own
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("mode", [gradients_only, nn.Module.train])
def test_the_gradient_reaches_every_parameter(mode):
    net = mode(network(inputs=2))
    clouds, inputs = map(tensors, clouds_and_inputs())
    result = net(net.prepare(clouds, inputs))
    (result * torch.randn_like(result)).sum().backward()
    assert [name for name, parameter in net.named_parameters() if not parameter.grad.any()] == []


def test_calibration_takes_the_mean_outputs_per_neighbour():
    net = network(widths=(4,))
    # Pairs of fine points, each with a coarse one at its middle, in a row. Within 0.8 m of a coarse or a fine point are
    # the coarse ones of its own pair and of those beside it. Within 0.4 m of a coarse point is its own pair.
    pairs = torch.tensor([[0.45 * number, y, 0.0] for number in range(4) for y in (0.0, 0.25)])
    net.calibrate(iter([net.prepare([pairs]), net.prepare([torch.empty(0, 3)]), net.prepare([pairs[:2]])]))
    expected = [(4 / 10 + 1 / 1) / 2, (4 / 8 + 1 / 2) / 2, (8 / 20 + 2 / 2) / 2]
    assert net.outputs_per_neighbour[:, 0].tolist() == pytest.approx(expected)


def test_calibration_without_points_changes_nothing():
    net = network()
    before = net.outputs_per_neighbour.clone()
    net.calibrate([net.prepare([torch.empty(0, 3)])])
    assert torch.equal(net.outputs_per_neighbour, before)


def constants(student):
    return {name: student.backbone.state_dict()[name].clone() for name in student.backbone.constants}


@pytest.fixture(scope="module")
def trained():
    """A small student with running statistics of toy sweeps."""
    from toy_world import toy_frame

    torch.manual_seed(0)
    options = dict(stem=4, widths=(8, 12), blocks=1, decoder_blocks=1, head=8)
    config = StudentConfig(voxel_size=0.4, backbone="pne", options=options, head_width=8, teacher_dim=6)
    student = Student(config).train()
    clouds = [torch.tensor(toy_frame(seed=seed).points) for seed in range(10)]
    student.backbone.calibrate(student.prepare(cloud) for cloud in clouds[:3])
    with torch.no_grad():
        for cloud in clouds:
            student(cloud)
    return student.eval()


def adapters(student, teacher):
    return {"ttt-kd-o": OnlineTTTKD(student, teacher), "dua": Dua(student), "adacontrast": AdaContrast(student)}


@pytest.mark.parametrize("method", ["ttt-kd-o", "dua", "adacontrast"])
def test_adaptation_changes_weights_but_no_constants(trained, teacher, make_frame, method):
    adapter = adapters(trained, teacher)[method]
    before = adapter.weights()
    for seed in range(3):
        report = adapter.step(make_frame(seed=seed), STEP)
        assert report.accepted, report.reason
    after = adapter.weights()
    assert any(not torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    assert not set(trained.backbone.constants) & after.tensors.keys()
    student = adapter._student if method == "ttt-kd-o" else adapter._state.student
    assert all(torch.equal(tensor, constants(student)[name]) for name, tensor in constants(trained).items())
    segmenter = Segmenter(trained)
    segmenter.load(after)
    assert segmenter.segment(make_frame().points).version == after.version


def test_the_loss_goes_down(trained, teacher, make_frame):
    adapter = OnlineTTTKD(trained, teacher)
    losses = [adapter.step(make_frame(seed=seed), STEP).loss for seed in range(20)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1


def test_training_passes_change_no_constants(trained, make_frame):
    student = copy.deepcopy(trained).train()
    student(torch.tensor(make_frame().points))
    assert all(torch.equal(tensor, constants(student)[name]) for name, tensor in constants(trained).items())


def test_constants_are_saved_and_loaded(trained, make_frame, tmp_path):
    save_student(trained, tmp_path / "student", {})
    loaded = load_student(tmp_path / "student")
    assert not torch.allclose(loaded.backbone.outputs_per_neighbour, torch.tensor(pne.FLAT))
    assert all(torch.equal(tensor, constants(loaded)[name]) for name, tensor in constants(trained).items())
    points = torch.tensor(make_frame().points)
    with torch.no_grad():
        assert torch.equal(loaded(points), trained(points))
