import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTConfig, ViTModel

from tttkd_ros.teacher import load_teacher

SIZE = (70, 140)  # 5 x 10 patches


def load(source, **options):
    return load_teacher(source, **(dict(input_size=SIZE, engine="eager") | options))


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of the teacher's directory, to be spoilt."""
    return shutil.copytree(folder, tmp_path / "copied")


def test_a_teacher_says_what_it_is(folder):
    teacher = load(folder)
    assert (teacher.name, teacher.dim, teacher.grid) == ("tiny", 32, (5, 10))
    assert (teacher.input_size, teacher.engine.name) == (SIZE, "eager")


def test_images_of_different_sizes_give_one_batch(folder, image):
    features = load(folder)([image, image[:40, :50]])
    assert features.shape == (2, 5, 10, 32)
    assert features.dtype == torch.float32


def test_an_images_features_do_not_depend_on_its_neighbours(folder, image):
    teacher = load(folder)
    torch.testing.assert_close(teacher([image, image[::-1]])[0], teacher([image])[0], atol=1e-5, rtol=1e-5)


def test_features_are_the_loaded_models(folder, model, image):
    resized = image[:70, :140]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((torch.from_numpy(resized).float() / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = model(pixels).last_hidden_state[:, -50:].reshape(1, 5, 10, 32)
    torch.testing.assert_close(load(folder)([resized]), expected, atol=1e-4, rtol=1e-4)


def test_patches_lie_as_the_images_parts_do(folder, image):
    teacher = load(folder)
    changed = image.copy()
    changed[-18:, :20] = 255 - changed[-18:, :20]  # the last row's first patch
    difference = (teacher([changed]) - teacher([image])).norm(dim=-1)[0]
    assert divmod(difference.argmax().item(), 10) == (4, 0)


def test_no_images_give_no_features(folder):
    assert load(folder)([]).shape == (0, 5, 10, 32)


def test_features_carry_no_gradient_but_may_stand_in_a_loss(folder, image):
    features = load(folder)([image])
    assert not features.requires_grad
    weight = torch.ones(32, requires_grad=True)
    (features * weight).sum().backward()
    assert weight.grad is not None


def test_a_teacher_answers_alike_every_time(folder, image):
    teacher = load(folder)
    assert torch.equal(teacher([image]), teacher([image]))
    assert torch.equal(teacher([image]), load(folder)([image]))


def test_its_own_preprocessing_is_used(copied, image):
    before = load(copied)([image])
    (copied / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}))
    assert not torch.allclose(load(copied)([image]), before, atol=1e-3)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match="no teacher at .*absent.*config.json and model.safetensors"):
        load(tmp_path / "absent")


def test_a_hub_name_that_is_not_on_this_machine_says_how_to_fetch_it():
    with pytest.raises(ValueError, match="facebook/dinov2-nonesuch.*local_files_only=False"):
        load("facebook/dinov2-nonesuch")


def test_a_directory_without_a_configuration_is_named(tmp_path):
    with pytest.raises(ValueError, match="no teacher at"):
        load(tmp_path)


def test_cut_short_weights_are_named(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ValueError, match="damaged or cut short.*fetch it again"):
        load(copied)


def test_missing_weights_are_named(copied):
    (copied / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="weights cannot be loaded"):
        load(copied)


def test_pickled_weights_are_not_read(copied):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="weights cannot be loaded"):
        load(copied)


def test_weights_that_lack_a_layer_are_refused_rather_than_made_up(copied):
    weights = load_file(copied / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if "layer.1." not in name},
              copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack .* tensors, .*layer.1"):
        load(copied)


def test_weights_of_another_size_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(ValueError, match="weights cannot be loaded"):
        load(copied)


def test_another_kind_of_model_is_refused(tmp_path):
    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'vit' model; expected dinov2 or dinov2_with_registers"):
        load(tmp_path)


def test_a_damaged_configuration_is_named(copied):
    (copied / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json cannot be read"):
        load(copied)


@pytest.mark.parametrize("size", [(70, 141), (0, 140), (-14, 140)])
def test_an_input_size_that_is_no_multiple_of_the_patch_is_refused(folder, size):
    with pytest.raises(ValueError, match=r"not a multiple of the patch size \(14, 14\); the nearest that is: \("):
        load(folder, input_size=size)


def test_a_position_grid_that_is_not_square_is_refused(build_model, tmp_path):
    build_model(image_size=[56, 28]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="4x2 patches"):
        load(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused(folder):
    with pytest.raises(ValueError, match="no CUDA device"):
        load(folder, device="cuda")


def test_what_is_not_an_image_is_refused(folder):
    with pytest.raises(ValueError, match="expected"):
        load(folder)([np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize("changes", [
    dict(hidden_size=2**13), dict(hidden_size=10**400), dict(num_hidden_layers=10**5), dict(num_channels=10**6),
    dict(mlp_ratio=10**9), dict(image_size=14 * 10**6), dict(hidden_size=0),
])
def test_a_configuration_of_a_larger_model_is_refused_before_that_is_made(copied, changes, monkeypatch):
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", lambda *_, **__: pytest.fail("the model was made"))
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match="different models|expected"):
        load(copied)


@pytest.mark.parametrize("changes", [
    dict(hidden_act="nope"), dict(dtype="float3"), dict(patch_size=0), dict(patch_size=[]), dict(apply_layernorm=[1]),
    dict(num_attention_heads=0), dict(quantization_config={"quant_method": "gptq"}), dict(patch_size=[14, "14"]),
])
def test_a_setting_that_makes_no_sense_is_refused(copied, changes):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ValueError, match="config.json cannot be read|weights cannot be loaded|patch_size"):
        load(copied)
