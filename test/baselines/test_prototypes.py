import pytest
import torch
from torch import nn

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.batch_norm import with_batch_statistics
from tttkd_ros.baselines.prototypes import PrototypeHead, Prototypes, PrototypeTable, with_prototypes
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student, StudentConfig

CONFIG = TTTConfig(stride=1, steps=1)


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return nn.Linear(4, 3).requires_grad_(False)


def test_before_the_first_step_predictions_are_the_source_classifiers(town):
    points = town.frame(0).points
    segmenters = [Segmenter(make(town.student)) for make in (with_prototypes, with_batch_statistics)]
    made, source = (segmenter.segment(points) for segmenter in segmenters)
    assert (made.labels == source.labels).all()
    assert made.confidence == pytest.approx(source.confidence, abs=1e-4)


def test_published_prototypes_reach_the_predictions_of_another_student(town):
    adapter = Prototypes(town.student)
    segmenter = Segmenter(with_prototypes(town.student))
    points = town.frame(5).points
    before = segmenter.segment(points).confidence
    adapter.step(town.frame(0), CONFIG)
    segmenter.load(adapter.weights())
    after = segmenter.segment(points).confidence
    assert abs(after - before).max() > 1e-3
    head = adapter._state.student.class_head
    assert after == pytest.approx(Segmenter(adapter._state.student).segment(points).confidence, abs=1e-6)
    assert head.prototypes is adapter._state.student.backbone.prototypes


def test_a_prototype_turns_towards_the_centred_feature_and_keeps_its_length(classifier):
    table = PrototypeTable(classifier)
    lengths = table.rows.norm(dim=1)
    features = {0: torch.tensor([5.0, 1.0, 1.0, 1.0]), 2: torch.tensor([1.0, 1.0, 1.0, 5.0])}
    still = table.rows[1].clone()
    for _ in range(200):
        table.update(features)
    assert torch.allclose(table.center, torch.tensor([3.0, 1.0, 1.0, 3.0]))
    assert torch.allclose(table.rows[0] / lengths[0], torch.tensor([0.5, 0, 0, -0.5]) * 2**0.5, atol=1e-2)
    assert torch.allclose(table.rows.norm(dim=1), lengths)
    assert torch.equal(table.rows[1], still), "a class without a confident point moved"


def test_a_step_moves_a_prototype_by_a_twentieth(classifier):
    table = PrototypeTable(classifier)
    before = nn.functional.normalize(table.rows[0], dim=0)
    other = torch.tensor([0.0, 2.0, 0.0, 0.0])
    table.update({0: torch.tensor([2.0, 0.0, 0.0, 0.0]), 1: other})
    target = nn.functional.normalize(torch.tensor([1.0, -1.0, 0.0, 0.0]), dim=0)
    moved = nn.functional.normalize(0.95 * before + 0.05 * target, dim=0)
    assert torch.allclose(nn.functional.normalize(table.rows[0], dim=0), moved, atol=1e-6)


def test_logits_are_the_mean_of_the_source_classifiers_and_the_prototypes(classifier):
    table = PrototypeTable(classifier)
    table.rows.copy_(torch.eye(3, 4))
    head = PrototypeHead(nn.Sequential(nn.Identity(), classifier), table)
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    expected = (classifier(features) + features[:, :3] + classifier.bias) / 2  # the center is 0
    assert torch.allclose(head(features), expected, atol=1e-6)


def test_a_linear_class_head_can_have_prototypes(town):
    torch.manual_seed(0)
    config = StudentConfig(voxel_size=0.3, options=dict(channels=4, levels=2), head_width=0, teacher_dim=0)
    student = Student(config).eval()
    points = town.frame(0).points
    made = Segmenter(with_prototypes(student)).segment(points)
    assert (made.labels == Segmenter(with_batch_statistics(student)).segment(points).labels).all()
    assert Prototypes(student).step(town.frame(0), CONFIG).accepted
