import copy
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_teacher import SETTINGS, TINY, save_tiny_teacher

from tttkd_ros.teacher.foundation_model import check_teacher, explain_other_name, load_teacher, nearest_input_size
from tttkd_ros.teacher.timm_import import timm
from tttkd_ros.teacher.timm_model import MAX_LAYERS

SIZE = (70, 140)  # 5 x 10 patches
ARGUMENTS = TINY | dict(embed_dim=32, depth=2, img_size=56)  # of the fixture `folder`


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
    model = copy.deepcopy(model)
    model.set_input_size(SIZE)
    with torch.no_grad():
        expected = model.forward_features(pixels)[:, -50:].reshape(1, 5, 10, 32)
    torch.testing.assert_close(load(folder)([resized]), expected, atol=1e-4, rtol=1e-4)


def test_patches_are_in_image_order(folder, image):
    teacher = load(folder)
    changed = image.copy()
    changed[-18:, :20] = 255 - changed[-18:, :20]  # the last row's first patch
    difference = (teacher([changed]) - teacher([image])).norm(dim=-1)[0]
    assert divmod(difference.argmax().item(), 10) == (4, 0)


def test_loading_a_teacher_leaves_the_random_numbers_of_others_alone(folder):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load(folder)
    assert torch.equal(torch.rand(1), expected)


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


def test_the_mean_and_std_of_the_folder_are_used(configured, folder, image):
    changed = configured(pretrained_cfg=SETTINGS | {"mean": [0, 0, 0], "std": [1, 1, 1]})
    assert not torch.allclose(load(changed)([image]), load(folder)([image]), atol=1e-3)


@pytest.mark.parametrize(("name", "wanted"), [
    ("absent", "timm/vit_small_patch14_dinov2.lvd142m"), ("/absent", "timm/vit_small_patch14_dinov2.lvd142m"),
    ("facebook/dinov2-small", "timm/vit_small_patch14_dinov2.lvd142m"),
    ("vit_base_patch14_dinov2.lvd142m", "timm/vit_base_patch14_dinov2.lvd142m"),
    ("timm/samvit_base_patch16.sa1b", "timm/samvit_base_patch16.sa1b"),
    ("hf-hub:timm/samvit_base_patch16.sa1b", "timm/samvit_base_patch16.sa1b"),
])
def test_a_missing_teacher_is_named_with_the_remedy(name, wanted):
    reason = f"no teacher at '{name}': there is no such .*config.json and .*hf download {wanted}`"
    with pytest.raises(ValueError, match=reason):
        load(name)


@pytest.mark.parametrize("name", [
    "timm/vit_small_patch14_dinov2.test", "vit_small_patch14_dinov2.test", "hf-hub:timm/vit_small_patch14_dinov2.test",
])
def test_a_downloaded_hub_model_is_found_by_its_name(folder, image, tmp_path, monkeypatch, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--timm--vit_small_patch14_dinov2.test"
    shutil.copytree(folder, model / "snapshots" / "0")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("0")
    teacher = load(name)
    assert teacher.name == name
    assert torch.equal(teacher([image]), load(folder)([image]))


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_the_files_is_named(copied, file):
    (copied / file).unlink()
    with pytest.raises(ValueError, match=f"no teacher at '{copied}': it has no {file}; fetch"):
        load(copied)


@pytest.mark.parametrize(("config", "wanted"), [
    (dict(model_type="dinov2", hidden_size=768), "vit_base_patch14_dinov2.lvd142m"),
    (dict(model_type="dinov2_with_registers", hidden_size=1024), "vit_large_patch14_reg4_dinov2.lvd142m"),
    (dict(model_type="clip"), "vit_small_patch14_dinov2.lvd142m"),
])
def test_a_folder_of_transformers_is_refused_with_timms_model(copied, config, wanted):
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"in transformers' layout, not in timm's; run `hf download timm/{wanted}`"):
        load(copied)


def test_truncated_weights_are_named(copied):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ValueError, match="copied' cannot be loaded: .*fetch"):
        load(copied)


def test_pickled_weights_are_not_read(copied):
    torch.save(load_file(copied / "model.safetensors"), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="copied': it has no model.safetensors"):
        load(copied)


def test_a_pickle_in_the_place_of_the_weights_is_not_read(copied):
    torch.save(load_file(copied / "model.safetensors"), copied / "pickle")
    (copied / "pickle").replace(copied / "model.safetensors")
    with pytest.raises(ValueError, match="copied' cannot be loaded: .*fetch"):
        load(copied)


@pytest.mark.parametrize("missing", ["blocks.1.", "norm.bias", ""])
def test_missing_tensors_are_not_made_up(copied, missing):
    weights = load_file(copied / "model.safetensors")
    save_file({name: tensor for name, tensor in weights.items() if missing not in name}, copied / "model.safetensors")
    with pytest.raises(ValueError, match="cannot be loaded: .*(Missing key.*(blocks.1|norm.bias)|has bytes)"):
        load(copied)


def test_weights_without_a_tensor_are_refused(copied):
    save_file({}, copied / "model.safetensors", {"padding": " " * 10**6})  # more bytes than the model has numbers
    with pytest.raises(ValueError, match="cannot be loaded: model.safetensors has no tensors"):
        load(copied)


def test_unknown_tensors_are_refused(copied):
    weights = load_file(copied / "model.safetensors")
    save_file(weights | {"another": torch.zeros(1)}, copied / "model.safetensors")
    with pytest.raises(ValueError, match="cannot be loaded: .*Unexpected key.*another"):
        load(copied)


def test_half_precision_weights_are_read(copied, image):
    weights = load_file(copied / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in weights.items()}, copied / "model.safetensors")
    features = load(copied)([image])
    assert features.dtype == torch.float32 and features.isfinite().all()


@pytest.mark.parametrize("arguments", [
    dict(embed_dim=64), dict(embed_dim=2**13), dict(embed_dim=10**400), dict(in_chans=10**6), dict(mlp_ratio=10**9),
    dict(img_size=14 * 10**6), dict(embed_dim=0), dict(img_size=[56, 28]), dict(img_size=112), dict(act_layer="nope"),
    dict(init_values=[1]), dict(num_heads=0), dict(patch_size=7), dict(patch_size=0),
    dict(patch_size=[]), dict(reg_tokens=10**6), dict(depth=3), dict(features_only=True),
])
def test_arguments_that_do_not_fit_the_weights_are_refused(configured, arguments):
    reason = "copied' cannot be (loaded|a teacher)|no teacher at '.*copied'|not a multiple"
    with pytest.raises(ValueError, match=reason):
        load(configured(model_args=ARGUMENTS | arguments))


@pytest.mark.parametrize(("entries", "reason"), [
    (dict(model_args=ARGUMENTS | dict(depth=10**5)), f"at most {MAX_LAYERS} layers"),
    (dict(model_args=ARGUMENTS | dict(pretrained_strict=False)), "pretrained_strict, which would read other weights"),
    (dict(model_args=ARGUMENTS | dict(checkpoint_path="x.pt")), "checkpoint_path, which would read other weights"),
    (dict(model_args=ARGUMENTS | dict(nonsense=1)), "timm cannot build it .*nonsense"),
    (dict(model_args=[1]), "model_args is no object"), (dict(pretrained_cfg=1), "is no object"),
    (dict(architecture="nope"), "timm .* has no architecture 'nope'"),
    (dict(architecture=None), "no architecture None"),
    (dict(architecture="hf-hub:timm/vit"), "no architecture 'hf-hub:timm/vit'"),
])
def test_a_bad_configuration_is_named_before_the_model_is_made(configured, entries, reason):
    with pytest.raises(ValueError, match=f"no teacher at '.*copied': .*{reason}.*; fetch"):
        check_teacher(configured(**entries), dim=32, input_size=SIZE)


def test_other_weights_named_in_the_configuration_are_not_read(configured, folder, image):
    elsewhere = {"url": "http://localhost:9/model.bin", "file": "/absent", "hf_hub_id": "absent/absent",
                 "source": "hf-hub", "custom_load": True}
    assert torch.equal(load(configured(pretrained_cfg=SETTINGS | elsewhere))([image]), load(folder)([image]))


@pytest.mark.parametrize("numbers", [dict(mean=[0.5]), dict(std=[0, 1, 1]), dict(mean="abc"), dict(std=[1e-320, 1, 1])])
def test_a_mean_or_std_that_gives_no_pixels_is_refused(configured, numbers):
    with pytest.raises(ValueError, match="cannot be loaded: its mean is .* expected three finite numbers"):
        load(configured(pretrained_cfg=SETTINGS | numbers))


@pytest.mark.parametrize(("content", "reason"), [
    ("{", "is not a valid JSON file"), ("[" * 100_000, "is not a valid JSON file"), ("[]", "holds list"),
])
def test_a_damaged_configuration_is_named(copied, content, reason):
    (copied / "config.json").write_text(content)
    with pytest.raises(ValueError, match=f"no teacher at '{copied}': .*{reason}"):
        load(copied)


@pytest.mark.parametrize("size", [(70, 141), (0, 140), (-14, 140)])
def test_an_input_size_that_is_no_multiple_of_the_patch_is_refused(folder, size):
    with pytest.raises(ValueError, match=r"not a multiple of 14 pixels, .* the nearest that is: \("):
        load(folder, input_size=size)


def test_the_nearest_input_size_is_a_multiple_of_the_patch(folder):
    assert nearest_input_size(folder, (140, 392)) == (140, 392)
    assert nearest_input_size(folder, (1, 150)) == (14, 154)


def test_a_teacher_that_does_not_fit_the_student_is_refused(folder):
    check_teacher(folder, dim=32, input_size=SIZE)
    with pytest.raises(ValueError, match="tiny' has 32 features, but the student was trained with one of 384"):
        check_teacher(folder, dim=384, input_size=SIZE)


def test_a_teacher_of_another_name_is_told_apart(folder):
    assert explain_other_name(folder, folder.name) == explain_other_name(folder, "") == ""
    assert explain_other_name("timm/vit_small", "vit_small") == explain_other_name("vit_small", "timm/vit_small") == ""
    assert "with the teacher 'vit_small', and this one is 'tiny'" in explain_other_name(folder, "vit_small")


def test_the_check_reads_no_weights(copied):
    (copied / "model.safetensors").write_bytes(b"")
    check_teacher(copied, dim=32, input_size=SIZE)


def test_a_position_that_is_computed_in_each_call_is_computed_once(tmp_path, image):
    model = timm.create_model("vit_tiny_patch16_dinov3_qkvb", depth=1)
    assert model.dynamic_img_size
    teacher = load(save_tiny_teacher(tmp_path, model), input_size=(80, 160))
    assert not teacher.engine.model.dynamic_img_size
    assert teacher([image]).shape == (1, 5, 10, 192)


def test_a_convolutional_network_can_be_the_teacher(tmp_path, image):
    teacher = load(save_tiny_teacher(tmp_path, timm.create_model("resnet18")), input_size=(64, 160))
    assert teacher([image]).shape == (1, 8, 20, 128 + 256 + 512)


def test_the_giants_are_checked_without_memory_for_their_weights(copied):
    config = {"architecture": "vit_giant_patch14_dinov2", "pretrained_cfg": SETTINGS}
    (copied / "config.json").write_text(json.dumps(config))
    check_teacher(copied, dim=1536, input_size=SIZE)
    with pytest.raises(ValueError, match="describes .* numbers, more than model.safetensors has bytes"):
        load(copied)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_refused(folder):
    with pytest.raises(ValueError, match="no CUDA device"):
        load(folder, device="cuda")


def test_an_array_that_is_no_image_is_refused(folder):
    with pytest.raises(ValueError, match="expected"):
        load(folder)([np.zeros((4, 4), np.uint8)])


def test_a_student_without_a_teacher_head_is_named(folder):
    with pytest.raises(ValueError, match="trained without a teacher"):
        check_teacher(folder, dim=0, input_size=(28, 56))
