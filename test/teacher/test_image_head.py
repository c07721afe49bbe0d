import pytest
import torch
from safetensors.torch import save_file

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.teacher.image_head import ImageHead, load_image_head, save_image_head

FITTING = dict(class_set=OUTDOOR, dim=6)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    head = ImageHead(**FITTING, teacher_name="toy")
    with torch.no_grad():
        head.norm.running_mean.normal_()
    save_image_head(head, tmp_path / "head.safetensors", {"seed": "0"})
    return head.eval(), tmp_path / "head.safetensors"


def test_a_saved_head_is_loaded_in_eval_mode(saved):
    head, path = saved
    loaded = load_image_head(path, **FITTING)
    features = torch.randn(5, 6)
    assert not loaded.training
    assert loaded.teacher_name == "toy"
    assert torch.equal(loaded(features), head(features))


def test_a_head_for_another_teacher_is_refused_with_the_remedy(saved):
    with pytest.raises(ValueError, match=r"6 features \(toy\).* has 384.*train image-head --teacher"):
        load_image_head(saved[1], class_set=OUTDOOR, dim=384)


def test_a_head_for_other_classes_is_refused_with_both(saved):
    with pytest.raises(ValueError, match='"truck".*, but the student has class set .indoor. .floor.*train image-head'):
        load_image_head(saved[1], class_set=ClassSet("indoor", ("floor",), ((0, 0, 0),)), dim=6)


def test_a_missing_file_is_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="tttkd train image-head"):
        load_image_head(tmp_path / "none", **FITTING)


def test_a_truncated_file_is_named(saved):
    saved[1].write_bytes(saved[1].read_bytes()[:-10])
    with pytest.raises(ValueError, match="cut short"):
        load_image_head(saved[1], **FITTING)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "format None, expected"),
        ({"format": "tttkd_ros student 2"}, "expected 'tttkd_ros image head 1'"),
        ({"format": "tttkd_ros image head 1"}, "classes None"),
        ({"format": "tttkd_ros image head 1", "classes": '["car"]', "dim": "6"}, "classes"),
    ],
)
def test_other_files_are_refused(tmp_path, metadata, reason):
    save_file(ImageHead(**FITTING).state_dict(), tmp_path / "other", metadata)
    with pytest.raises(ValueError, match=reason):
        load_image_head(tmp_path / "other", **FITTING)


def test_weights_that_do_not_fit_are_named(saved):
    head, path = saved
    head.linear = torch.nn.Linear(6, 3)
    save_image_head(head, path, {})
    with pytest.raises(ValueError, match=r"linear.bias has shape \(3,\), expected \(10,\)"):
        load_image_head(path, **FITTING)
