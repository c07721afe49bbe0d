import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTModel

from tttkd_ros.teacher.dinov2 import MAX_LAYERS, check_teacher, load_teacher

SIZE = (70, 140)  # 5 x 10 patches


def load(source, **options):
    return load_teacher(source, **(dict(input_size=SIZE, engine="eager") | options))


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the teacher's directory, to be damaged."""
    return shutil.copytree(folder, tmp_path / "copied")


@pytest.fixture
def configured(copied):
    """`configured(name=value)`: the copy with other entries in its config.json."""

    def change(**entries):
        config = json.loads((copied / "config.json").read_text())
        (copied / "config.json").write_text(json.dumps(config | entries))
        return copied

    return change


def test_a_teacher_states_its_properties(folder):
    teacher = load(folder)
    assert (teacher.name, teacher.dim, teacher.grid) == ("tiny", 32, (5, 10))
    assert (teacher.input_size, teacher.engine.name) == (SIZE, "eager")


def test_images_of_different_sizes_give_one_batch(folder, image):
    features = load(folder)([image, image[:40, :50]])
    assert features.shape == (2, 5, 10, 32)
    assert features.dtype == torch.float32


def test_the_features_of_an_image_do_not_depend_on_the_batch(folder, image):
    teacher = load(folder)
    torch.testing.assert_close(teacher([image, image[::-1]])[0], teacher([image])[0], atol=1e-5, rtol=1e-5)


def test_features_are_those_of_the_model(folder, model, image):
    resized = image[:70, :140]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(resized).float() / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = model(pixels).last_hidden_state[:, -50:].reshape(1, 5, 10, 32)
    torch.testing.assert_close(load(folder)([resized]), expected, atol=1e-4, rtol=1e-4)


def test_patches_are_in_image_order(folder, image):
    teacher = load(folder)
    changed = image.copy()
    changed[-18:, :20] = 255 - changed[-18:, :20]  # the last row's first patch
    difference = (teacher([changed]) - teacher([image])).norm(dim=-1)[0]
    assert divmod(difference.argmax().item(), 10) == (4, 0)


def test_no_images_give_no_features(folder):
    assert load(folder)([]).shape == (0, 5, 10, 32)


def test_features_have_no_gradient_but_can_be_used_in_a_loss(folder, image):
    features = load(folder)([image])
    assert not features.requires_grad
    weight = torch.ones(32, requires_grad=True)
    (features * weight).sum().backward()
    assert weight.grad is not None


def test_features_are_repeatable(folder, image):
    teacher = load(folder)
    assert torch.equal(teacher([image]), teacher([image]))
    assert torch.equal(teacher([image]), load(folder)([image]))


def test_the_preprocessing_of_the_directory_is_used(copied, image):
    before = load(copied)([image])
    (copied / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    assert not torch.allclose(load(copied)([image]), before, atol=1e-3)


@pytest.mark.parametrize("name", ["absent", "/absent", "facebook/dinov2-nonesuch"])
def test_a_missing_teacher_is_named_with_the_remedy(name):
    with pytest.raises(ValueError, match=f"no teacher at '{name}': there is no such.*config.json and .*hf download"):
        load(name)


def test_a_directory_without_a_configuration_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"no teacher at '{tmp_path}'.*config.json"):
        load(tmp_path)


def test_truncated_weights_are_named(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ValueError, match="copied' cannot be loaded: .*fetch"):
        load(copied)


def test_pickled_weights_are_not_read(copied):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="copied' cannot be loaded: .*model.safetensors"):
        load(copied)


def test_missing_layers_are_not_made_up(copied):
    weights = load_file(copied / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if "layer.1." not in name},
              copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack .* tensors, .*layer.1"):
        load(copied)


@pytest.mark.parametrize("entries", [
    dict(hidden_size=64), dict(hidden_size=2**13), dict(hidden_size=10**400), dict(num_channels=10**6),
    dict(mlp_ratio=10**9), dict(image_size=14 * 10**6), dict(hidden_size=0), dict(image_size=[56, 28]),
    dict(hidden_act="nope"), dict(apply_layernorm=[1]), dict(num_attention_heads=0),
    dict(quantization_config={"quant_method": "gptq"}),
])
def test_a_configuration_that_does_not_fit_the_weights_is_refused(configured, entries):
    with pytest.raises(ValueError, match="copied' cannot be loaded|no teacher at '.*copied'"):
        load(configured(**entries))


@pytest.mark.parametrize(("entries", "reason"), [
    (dict(patch_size=0), "zero"), (dict(patch_size=[]), "broadcast"), (dict(patch_size=[14, "14"]), "patch_size"),
    (dict(dtype="float3"), "float3"), (dict(num_hidden_layers=10**5), f"at most {MAX_LAYERS}"),
    (dict(model_type="nope"), "nope"),
])
def test_a_bad_configuration_is_named_before_the_model_is_made(configured, entries, reason):
    with pytest.raises(ValueError, match=f"no teacher at '.*copied': .*{reason}.*Name a directory"):
        check_teacher(configured(**entries), dim=32, input_size=SIZE)


def test_another_kind_of_model_is_refused(tmp_path):
    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="a 'vit' model, expected dinov2 or dinov2_with_registers"):
        load(tmp_path)


def test_a_damaged_configuration_is_named(copied):
    (copied / "config.json").write_text("{")
    with pytest.raises(ValueError, match="no teacher at .*config.json' is not a valid JSON"):
        load(copied)


@pytest.mark.parametrize("size", [(70, 141), (0, 140), (-14, 140)])
def test_an_input_size_that_is_no_multiple_of_the_patch_is_refused(folder, size):
    with pytest.raises(ValueError, match=r"not a multiple of the patch size \(14, 14\); the nearest that is: \("):
        load(folder, input_size=size)


def test_a_teacher_that_does_not_fit_the_student_is_refused(folder):
    check_teacher(folder, dim=32, input_size=SIZE)
    with pytest.raises(ValueError, match="tiny' has 32 features, but the student was trained with one of 384"):
        check_teacher(folder, dim=384, input_size=SIZE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_refused(folder):
    with pytest.raises(ValueError, match="no CUDA device"):
        load(folder, device="cuda")


def test_an_array_that_is_no_image_is_refused(folder):
    with pytest.raises(ValueError, match="expected"):
        load(folder)([np.zeros((4, 4), np.uint8)])
