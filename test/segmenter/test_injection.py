"""Injection against a slow reference: plain loops over points, cells and cameras' patches."""

import math

import pytest
import torch

from tttkd_ros.segmenter import backbones
from tttkd_ros.segmenter.image_features import ImageFeatures, image_grid
from tttkd_ros.segmenter.injection import INJECTIONS, Injection
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.voxels import rotation, voxelise

DIM, VOXEL = 5, 0.1
SMALL = {
    "scn": dict(channels=4, levels=3),
    "spunet34c": dict(base_channels=4, channels=[4, 6, 6, 4], layers=[1, 1, 1, 1]),
    "ptv3": dict(channels=[4, 8, 8], depths=[1, 1, 1], heads=[1, 2, 2], decoder_channels=[4, 8], decoder_depths=[1, 1],
                 decoder_heads=[1, 2], strides=[2, 4], patch_size=32),
}


def images_of(count: int, patches: int = 7) -> ImageFeatures:
    patch = torch.randint(-1, patches, (count,))
    patch[: count // 3] = -1
    return ImageFeatures(patch, torch.randn(patches, DIM))


def student(backbone: str, injection: str = "decoder", teacher_dim: int = DIM) -> Student:
    torch.manual_seed(1)
    dim = DIM if injection else 0
    made = Student(StudentConfig(backbone=backbone, options=SMALL[backbone], voxel_size=VOXEL, teacher_dim=teacher_dim,
                                 teacher_input=(28, 56), injection=injection, image_dim=dim))
    if injection:  # statistics and affine parameters that a wrong norm would not survive
        for module in made.backbone.injection.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                torch.nn.init.normal_(module.weight)
                torch.nn.init.normal_(module.bias)
    return made.eval()


def slow_cells(clouds: list[torch.Tensor], halvings: int) -> list[tuple[int, ...]]:
    """The cell of each point, clouds one after the other."""
    cells = []
    for number, cloud in enumerate(clouds):
        low = cloud.min(0).values
        for point in cloud:
            cells.append((number, *(int(value) // 2**halvings for value in (point - low) / VOXEL)))
    return cells


def slow_maximum(cells, images: list[ImageFeatures]) -> dict[tuple[int, ...], list[float]]:
    """Cell -> the maximum of its points' features, zeros for unseen points."""
    features = [list(each.table[row].tolist()) if row >= 0 else [0.0] * DIM for each in images for row in each.patch]
    pooled = {}
    for cell, feature in zip(cells, features, strict=True):
        pooled[cell] = [max(pair) for pair in zip(pooled[cell], feature, strict=True)] if cell in pooled else feature
    return pooled


@pytest.mark.parametrize("halvings", [[0], [0, 1, 2], [0, 3], [2]])
def test_the_grid_has_the_maximum_of_each_cell(halvings):
    clouds = [torch.rand(150, 3) * 2, torch.rand(80, 3)]
    images = [images_of(150), images_of(80)]
    voxels = voxelise(clouds, VOXEL, 8)
    grid = image_grid(ImageFeatures.joined(images), voxels, halvings)
    for halving in halvings:
        expected = slow_maximum(slow_cells(clouds, halving), images)
        level = grid[halving]
        torch.testing.assert_close(level.table[level.row], torch.tensor([expected[cell] for cell in sorted(expected)]))
        indices, order = torch.tensor(sorted(expected)).int(), torch.randperm(len(expected))
        assert torch.equal(level.rows_of(indices), level.row)
        assert torch.equal(level.rows_of(indices[order]), level.row[order])


def test_a_cell_of_seen_points_can_have_a_maximum_below_zero():
    images = ImageFeatures(torch.tensor([0, 1, -1]), torch.tensor([[-3.0], [-1.0]]))
    grid = image_grid(images, voxelise([torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [1.0, 0, 0]])], VOXEL), [0, 8])
    found = [grid[halving].table[grid[halving].row].tolist() for halving in (0, 8)]
    assert found == [[[-1.0], [0.0]], [[0.0]]]


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("injection", INJECTIONS)
def test_features_equal_those_of_the_slow_reference(backbone, injection, monkeypatch):
    """The pass is the network's own, but what is added at each place comes from loops and formulas."""
    net = student(backbone, injection)
    clouds, images = [torch.rand(250, 3) * 2, torch.rand(120, 3)], [images_of(250), images_of(120)]
    points = [Points(cloud, images=each) for cloud, each in zip(clouds, images, strict=True)]
    places = net.backbone.places

    def slow(place, _, indices=None):
        halvings, width = places[place]
        pooled = slow_maximum(slow_cells(clouds, halvings), images)
        cells = sorted(pooled) if indices is None else [tuple(cell) for cell in indices.tolist()]
        linear, norm, _ = net.backbone.injection[place]
        added = torch.empty(len(cells), width)
        for row, cell in enumerate(cells):
            for column in range(width):
                value = sum(w * f for w, f in zip(linear.weight[column].tolist(), pooled[cell], strict=True))
                value += float(linear.bias[column]) - float(norm.running_mean[column])
                value *= float(norm.weight[column]) / math.sqrt(float(norm.running_var[column]) + norm.eps)
                value += float(norm.bias[column])
                added[row, column] = value * 0.5 * (1 + math.erf(value / math.sqrt(2)))  # GELU
        called.append(place)
        return added

    called = []
    with torch.no_grad():
        fast = net(points)
        monkeypatch.setattr(net.backbone.injection, "project", slow)
        torch.testing.assert_close(fast, net(points), rtol=1e-4, atol=1e-5)
        bare = student(backbone, "")(points)
    assert not torch.allclose(fast, bare, atol=1e-3)
    expected = {"decoder": [f"level{n}" for n in reversed(range(2))], "input": ["stem"], "last": ["level0"],
                "output": ["output"]}
    assert called == expected[injection]


@pytest.mark.parametrize("backbone", SMALL)
def test_in_training_the_statistics_are_those_of_the_cells(backbone):
    net, images = student(backbone), images_of(250)
    injection, prepared = net.backbone.injection.train(), net.prepare(Points(torch.rand(250, 3) * 2, images=images))
    linear, norm, _ = injection["level0"]
    level = prepared.images[0]
    expected = linear(level.table[level.row])
    norm.momentum = 1.0
    injection.project("level0", prepared.images)
    torch.testing.assert_close(norm.running_mean, expected.mean(0))
    torch.testing.assert_close(norm.running_var, expected.var(0))


@pytest.mark.parametrize("backbone", SMALL)
def test_an_injection_of_zeros_changes_nothing(backbone):
    net, bare = student(backbone), student(backbone, "")
    bare.load_state_dict({name: tensor for name, tensor in net.state_dict().items() if ".injection." not in name})
    for name, parameter in net.backbone.injection.named_parameters():
        if ".1." in f".{name}":  # of the norms, whose result of 0 GELU keeps
            parameter.data.zero_()
    points = Points(torch.rand(300, 3) * 2, images=images_of(300))
    with torch.no_grad():
        assert torch.equal(net(points), bare(points))


@pytest.mark.parametrize("backbone", SMALL)
def test_points_without_images_are_points_that_no_camera_sees(backbone):
    net, cloud = student(backbone), torch.rand(200, 3) * 2
    unseen = ImageFeatures(torch.full((200,), -1), torch.randn(4, DIM))
    with torch.no_grad():
        alone = net(Points(cloud))
        assert torch.equal(alone, net(Points(cloud, images=unseen)))
        torch.testing.assert_close(net([Points(cloud), Points(torch.rand(50, 3), images=images_of(50))])[:200], alone)


def test_image_features_follow_the_rows_and_rotations_of_their_points():
    points = Points(torch.rand(30, 3), images=images_of(30))
    chosen = torch.rand(30) < 0.5
    assert torch.equal(points[chosen].images.patch, points.images.patch[chosen])
    assert points.transformed(rotation(1.0)).images is points.images
    assert points.without_images().images is None


def test_clouds_with_a_common_table_are_joined_without_a_copy():
    table = torch.randn(4, DIM)
    clouds = [ImageFeatures(torch.tensor([0, -1]), table), ImageFeatures(torch.tensor([3]), table)]
    joined = ImageFeatures.joined(clouds)
    assert joined.table is table and joined.patch.tolist() == [0, -1, 3]
    other = ImageFeatures.joined([*clouds, ImageFeatures(torch.tensor([1, -1]), torch.randn(2, DIM))])
    assert other.patch.tolist() == [0, -1, 3, 5, -1] and len(other.table) == 6


def test_a_backbone_without_places_refuses():
    with pytest.raises(ValueError, match="injection is 'decoder', but backbone pne takes no image features"):
        Student(StudentConfig(backbone="pne", options=dict(widths=[4, 4], head=4), injection="decoder", image_dim=DIM,
                              teacher_dim=DIM))


@pytest.mark.parametrize("settings", [
    dict(injection="encoder", image_dim=5), dict(injection="decoder"), dict(image_dim=5),
    dict(injection="decoder", image_dim=5, teacher_dim=4),
])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ValueError, match="injection is|image_dim is"):
        StudentConfig(**settings)


def test_every_backbone_with_places_names_the_common_ones():
    for name in SMALL:
        net = backbones.build(name, SMALL[name], 0, VOXEL)
        assert list(net.places) == ["stem", "level0", "level1", "output"]
        assert isinstance(Injection("decoder", DIM, net.places), torch.nn.Module)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backbone", SMALL)
def test_on_a_gpu_each_cell_gets_its_own_features(backbone):
    """spconv numbers the coarse voxels of a GPU in an order of its own."""
    net, images = student(backbone), images_of(2000)
    points = Points(torch.rand(2000, 3) * 4, images=images)
    with torch.no_grad():
        expected = net(points)
        found = net.to("cuda")(points.to(torch.device("cuda"))).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
