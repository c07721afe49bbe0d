"""Features of one small model of each family, against timm's own output and slow references."""

import copy
import math

import pytest
import torch
from tiny_teacher import randomise

from tttkd_ros.teacher.features import PatchFeatures
from tttkd_ros.teacher.timm_import import timm
from tttkd_ros.teacher.timm_model import total_stride

SMALL = dict(depth=2, dynamic_img_size=False)
FAMILIES = {  # architecture -> input size, width of the features, arguments
    "vit_small_patch14_dinov2": ((70, 140), 384, SMALL),
    "vit_small_patch14_reg4_dinov2": ((70, 140), 384, SMALL),
    "vit_giant_patch14_reg4_dinov2": ((70, 140), 96, SMALL | dict(embed_dim=96, num_heads=2)),  # gated layers
    "vit_tiny_patch16_dinov3_qkvb": ((80, 160), 192, SMALL),
    "vit_small_patch16_dinov3": ((80, 160), 384, SMALL),
    "vit_base_patch32_clip_224": ((64, 160), 768, SMALL),
    "vit_base_patch32_siglip_256": ((64, 160), 768, SMALL),
    "aimv2_large_patch14_224": ((70, 140), 1024, SMALL),
    "vit_tiny_patch16_224": ((80, 160), 192, SMALL),
    "samvit_base_patch16": ((80, 160), 256, dict(depth=2, img_size=256, global_attn_indexes=(1,))),
    "samvit_base_patch16_224": ((80, 160), 768, dict(depth=2, global_attn_indexes=(1,))),
    "sam2_hiera_tiny": ((64, 160), 192 + 384 + 768, {}),
    "tf_efficientnet_lite0": ((64, 160), 40 + 112 + 320, {}),
    "resnet18": ((64, 160), 128 + 256 + 512, {}),
}
PYRAMIDS = ("sam2_hiera_tiny", "tf_efficientnet_lite0", "resnet18")
VITS = [name for name in FAMILIES if name not in PYRAMIDS and not name.startswith("sam")]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    """Name, model, its features and random pixels."""
    size, _, arguments = FAMILIES[request.param]
    torch.manual_seed(0)
    model = randomise(timm.create_model(request.param, **arguments))
    return request.param, model, PatchFeatures(copy.deepcopy(model), size), torch.randn(2, 3, *size)


def test_each_family_has_its_width_and_grid(family):
    name, model, features, pixels = family
    size, dim, _ = FAMILIES[name]
    stride = 8 if name in PYRAMIDS else total_stride(model)
    assert (features.dim, features.grid) == (dim, (size[0] // stride, size[1] // stride))
    assert features(pixels).shape == (2, math.prod(features.grid), dim)


def test_each_family_can_be_exported(family):
    name, _, features, pixels = family
    program = torch.export.export(features, (pixels[:1],))
    torch.testing.assert_close(program.module()(pixels[:1]), features(pixels[:1]))
    if name not in PYRAMIDS:  # a position that is no constant is resampled by a bicubic operator
        assert not [node for node in program.graph.nodes if "bicubic" in str(node.target)]


def test_each_family_is_frozen(family):
    features = family[2]
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert not any(module.training for module in features.modules())


@pytest.mark.parametrize("name", VITS)
def test_features_of_a_vit_are_the_normed_patch_tokens(name):
    (height, width), _, arguments = FAMILIES[name]
    model = randomise(timm.create_model(name, **arguments))
    features = PatchFeatures(copy.deepcopy(model), (height, width))
    pixels = torch.randn(2, 3, height, width)
    model.set_input_size((height, width))
    with torch.no_grad():
        tokens = model.forward_features(pixels)
        assert tokens.shape[1] > math.prod(features.grid) or not model.num_prefix_tokens
        torch.testing.assert_close(features(pixels), tokens[:, model.num_prefix_tokens :])


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("samvit")])
def test_features_of_sam_are_those_of_its_neck(name):
    size, _, arguments = FAMILIES[name]
    model = randomise(timm.create_model(name, **arguments))
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model.forward_features(pixels).flatten(2).transpose(1, 2)
        torch.testing.assert_close(PatchFeatures(model, size)(pixels), expected)


def enlarged(level, grid):
    """Enlarge (C, rows, columns) bilinearly, one value after another; pixel centres lie at halves."""
    result = torch.empty(level.shape[0], *grid)
    for row in range(grid[0]):
        for column in range(grid[1]):
            value = 0
            y, x = ((place + 0.5) * of / to - 0.5
                    for place, of, to in zip((row, column), level.shape[1:], grid, strict=True))
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    inside = level[:, min(max(i, 0), level.shape[1] - 1), min(max(j, 0), level.shape[2] - 1)]
                    value = value + inside * (1 - abs(y - i)) * (1 - abs(x - j))
            result[:, row, column] = value
    return result


@pytest.mark.parametrize("name", PYRAMIDS)
def test_a_pyramid_has_the_layers_of_three_strides_side_by_side(name):
    size, _, arguments = FAMILIES[name]
    model = randomise(timm.create_model(name, **arguments))
    pixels = torch.randn(1, 3, *size)
    layers = {info["module"]: info["reduction"] for info in model.feature_info}
    found = {}
    for module, stride in layers.items():
        model.get_submodule(module).register_forward_hook(
            lambda _, inputs, output, stride=stride: found.update({stride: output[0]}))
    with torch.no_grad():
        model.forward_features(pixels)
    levels = [found[stride].permute(2, 0, 1) if name == "sam2_hiera_tiny" else found[stride] for stride in (8, 16, 32)]
    grid = tuple(levels[0].shape[1:])
    expected = torch.cat([enlarged(level, grid) for level in levels]).flatten(1).T
    torch.testing.assert_close(PatchFeatures(model, size)(pixels)[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(70, 140), (56, 56), (112, 28)])
def test_the_position_is_resampled_for_the_input_size(model, size):
    features = PatchFeatures(copy.deepcopy(model), size)
    grid = (size[0] // 14, size[1] // 14)
    prefix = 0 if model.no_embed_class else 1
    expected = timm.layers.resample_abs_pos_embed(model.pos_embed, grid, (4, 4), num_prefix_tokens=prefix)
    torch.testing.assert_close(features.model.pos_embed.detach(), expected.detach())
    assert features(torch.randn(1, 3, *size)).shape == (1, grid[0] * grid[1], 32)


def test_a_model_without_the_three_strides_is_refused():
    model = timm.create_model("resnet18", output_stride=16)
    with pytest.raises(ValueError, match="no features of stride 32, only of 2, 4, 8, 16"):
        PatchFeatures(model, (64, 64))
