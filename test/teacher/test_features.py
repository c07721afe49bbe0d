import pytest
import torch

from tttkd_ros.teacher.features import PatchFeatures

SIZE = (70, 140)  # 5 x 10 patches


@pytest.mark.parametrize("size", [SIZE, (56, 56), (112, 28)])
def test_features_are_the_models_patch_tokens(model, size):
    features = PatchFeatures(model, size)
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(pixels).last_hidden_state[:, -features.grid[0] * features.grid[1] :]
        torch.testing.assert_close(features(pixels), expected)


@pytest.mark.parametrize("registers", [False, True], ids=["plain", "registers"])
def test_the_small_dinov2_runs(build_model, registers):
    model = build_model(registers, hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518)
    pixels = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(PatchFeatures(model, SIZE)(pixels), model(pixels).last_hidden_state[:, -50:])


def test_the_giants_gated_layers_run(build_model):
    model = build_model(use_swiglu_ffn=True)
    pixels = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(PatchFeatures(model, SIZE)(pixels), model(pixels).last_hidden_state[:, 1:])


def test_the_teacher_is_frozen(features):
    assert not any(parameter.requires_grad for parameter in features.parameters())
    assert not any(module.training for module in features.modules())


def test_the_teacher_can_be_exported(features):
    pixels = torch.randn(1, 3, *SIZE)
    program = torch.export.export(features, (pixels,))
    torch.testing.assert_close(program.module()(pixels), features(pixels))
