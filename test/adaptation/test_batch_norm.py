import copy

import numpy as np
import pytest
import torch
from torch import nn

from tttkd_ros.adaptation.batch_norm import dua_momentum, norms
from tttkd_ros.baselines.batch_norm import ema_update, train_affine_only, with_batch_statistics
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.weights import adaptable


def test_every_norm_of_the_backbone_is_found(student):
    assert len(norms(student.backbone)) == sum(name.endswith("running_var") for name in student.backbone.state_dict())


def test_batch_statistics_are_those_of_train_mode(student, make_frame):
    points = torch.tensor(make_frame().points)
    with torch.no_grad():
        own = with_batch_statistics(student).eval()(points)
        expected = copy.deepcopy(student).train()(points)
    assert torch.equal(own, expected)
    assert not torch.allclose(own, student(points), atol=1e-3)


def test_batch_statistics_hold_in_the_segmenter(student, make_frame):
    points = make_frame().points
    with torch.no_grad():
        train = copy.deepcopy(student).train()
        expected = train.logits(train(torch.tensor(points))).argmax(1)
    np.testing.assert_array_equal(Segmenter(with_batch_statistics(student)).segment(points).labels, expected)


def test_a_copy_with_batch_statistics_has_the_same_tensors_under_the_same_names(student, make_frame):
    copied = with_batch_statistics(student)
    copied(torch.tensor(make_frame().points))
    tensors = adaptable(copied.backbone)
    assert tensors.keys() == adaptable(student.backbone).keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in adaptable(student.backbone).items())


def test_a_single_voxel_is_answered_with_the_running_statistics(student):
    point = np.ones((1, 3), np.float32)
    own, running = (Segmenter(each).segment(point) for each in (with_batch_statistics(student), student))
    assert own.confidence == running.confidence


def test_scale_and_shift_are_trained_and_nothing_else(student):
    trained = {id(parameter) for parameter in train_affine_only(student.backbone)}
    expected = {id(parameter) for norm in norms(student.backbone) for parameter in (norm.weight, norm.bias)}
    assert trained == expected
    assert all(parameter.requires_grad == (id(parameter) in trained) for parameter in student.backbone.parameters())


def test_statistics_go_no_further_than_to_the_batchs_own_beyond_which_a_variance_may_be_negative():
    assert [dua_momentum(update, 0.95) for update in (1, 20)] == [1.0, pytest.approx(0.95 + 0.1 * 0.94**20)]


@pytest.mark.parametrize("statistics", [True, False])
def test_following_moves_the_slow_one_by_what_the_momentum_leaves(statistics):
    slow, fast = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        fast.weight.fill_(11.0)  # from 1
        fast.running_mean.fill_(10.0)  # from 0
    ema_update(slow, fast, 0.9, statistics=statistics)
    assert slow.weight.tolist() == pytest.approx([2.0, 2.0])
    assert slow.running_mean.tolist() == pytest.approx([1.0 * statistics] * 2)
