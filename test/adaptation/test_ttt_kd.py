import copy
import inspect

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from tttkd_ros.adaptation import ttt_kd
from tttkd_ros.adaptation.config import TTTConfig, paper_config
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.adaptation.targets import teacher_targets
from tttkd_ros.adaptation.ttt_kd import TTTKD, configure, distillation_loss
from tttkd_ros.segmenter.points import Points


def reference(student, teacher, frames, learning_rate, count, steps):
    """TTT-KD in 15 lines, without the package's algorithm."""
    student, generator = copy.deepcopy(student).requires_grad_(False).train(), torch.Generator().manual_seed(0)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()  # frozen statistics
    optimiser = torch.optim.SGD(student.backbone.requires_grad_(True).parameters(), lr=learning_rate)
    for frame in frames:
        targets = teacher_targets(frame, teacher, generator)
        for _ in range(steps):
            drawn = torch.randperm(len(targets.index), generator=generator)[:count]
            predicted = student.teacher_head(student(torch.tensor(frame.points))[targets.index[drawn]])
            wanted = targets.table[targets.patch[drawn]] - student.teacher_mean
            optimiser.zero_grad()
            (-cosine_similarity(predicted, wanted, dim=1).mean()).backward()
            optimiser.step()
    return student.backbone.state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_algorithm_is_bit_for_bit_the_papers(student, teacher, make_frame, steps):
    frames = [make_frame(stamp=stamp, seed=stamp) for stamp in range(4)]
    algorithm = TTTKD(student, teacher, torch.Generator().manual_seed(0))
    for frame in frames:
        points = torch.tensor(frame.points)
        in_range = algorithm.student.in_range(points)
        scene = algorithm.project(frame, Points(points[in_range]), in_range)
        for _ in range(steps):
            algorithm.descend(algorithm.features(scene), scene, 50, 0.1)
    expected = reference(student, teacher, frames, 0.1, 50, steps)
    assert same(algorithm.student.backbone.state_dict(), expected)
    assert not same(expected, student.backbone.state_dict())


@pytest.mark.parametrize("steps", [1, 3])
def test_with_the_papers_settings_the_adapter_is_bit_for_bit_the_papers(student, teacher, make_frame, steps):
    frames = [make_frame(stamp=stamp, seed=stamp) for stamp in range(4)]
    adapter = OnlineTTTKD(student, teacher)
    config = TTTConfig(learning_rate=0.1, kd_points=50, steps=steps, rotations=1)
    assert all(adapter.step(frame, paper_config(config)).accepted for frame in frames)
    expected = reference(student, teacher, frames, 0.1, 50, steps)
    weights = adapter.weights().tensors
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())


def test_a_backbone_scales_the_learning_rate(student, teacher, make_frame):
    scaled = copy.deepcopy(student)
    scaled.backbone.rate_scale = 0.25
    weights = []
    for each, rate in ((student, 0.1), (scaled, 0.4), (scaled, 0.1)):
        adapter = OnlineTTTKD(each, teacher)
        assert adapter.step(make_frame(), paper_config(TTTConfig(learning_rate=rate, steps=1, rotations=1))).accepted
        weights.append(adapter.weights().tensors)
    assert same(weights[0], weights[1]) and not same(weights[0], weights[2])


def test_the_file_fits_on_one_screen():
    assert len(inspect.getsource(ttt_kd).splitlines()) <= 100


def test_the_backbone_is_trained_and_nothing_else(student):
    trained = {id(parameter) for parameter in configure(student)}
    assert trained == {id(parameter) for parameter in student.backbone.parameters()}
    assert all(parameter.requires_grad == (id(parameter) in trained) for parameter in student.parameters())


def test_batch_norm_uses_running_statistics_while_convolutions_train(student):
    configure(student)
    norms = [module for module in student.modules() if isinstance(module, nn.BatchNorm1d)]
    convolutions = [module for module in student.modules() if hasattr(module, "indice_key")]
    assert norms and convolutions
    assert not any(module.training for module in norms)
    assert all(module.training for module in convolutions)


def test_the_loss_is_the_negative_mean_cosine():
    predicted = torch.tensor([[1.0, 0], [0, 2], [3, 0]])
    target = torch.tensor([[5.0, 0], [0, -1], [0, 1]])
    assert distillation_loss(predicted, target) == pytest.approx(-(1 - 1 + 0) / 3)
