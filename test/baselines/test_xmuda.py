import copy

import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.baseline import IGNORED
from tttkd_ros.baselines.xmuda import XMuda, pseudo_labels

CONFIG = TTTConfig(stride=1, steps=1)


def logits(*confidences, winner=0):
    """Rows of two classes with these probabilities of the winner."""
    confidence = torch.tensor(confidences)
    rows = [confidence, 1 - confidence] if winner == 0 else [1 - confidence, confidence]
    return torch.stack(rows, 1).log()


def test_pseudo_labels_below_the_median_of_their_class_are_ignored():
    mixed = torch.cat([logits(0.6, 0.7, 0.8), logits(0.55, 0.56, 0.57, winner=1)])
    assert pseudo_labels(mixed).tolist() == [IGNORED, 0, 0, IGNORED, 1, 1]


def test_pseudo_labels_above_0_9_are_never_ignored():
    assert pseudo_labels(logits(0.85, 0.92, 0.95, 0.99)).tolist() == [IGNORED, 0, 0, 0]


def test_the_norm_of_the_2d_branch_adapts(town, monkeypatch):
    monkeypatch.setattr(XMuda, "learning_rate", 1e-2)
    adapter = XMuda(town.student, town.teacher, town.head)
    adapter.step(town.frame(0), CONFIG)
    head = adapter._state.head
    assert not torch.equal(head.norm.weight, town.head.norm.weight)
    assert torch.equal(head.linear.weight, town.head.linear.weight)


def test_the_3d_branch_learns_from_the_2d_branch(town, monkeypatch):
    """Without pseudo labels, an image head that is always wrong makes the student wrong."""
    monkeypatch.setattr("tttkd_ros.baselines.xmuda.PSEUDO_LABEL_WEIGHT", 0.0)
    monkeypatch.setattr("tttkd_ros.baselines.xmuda.CROSS_MODAL_WEIGHT", 1.0)
    monkeypatch.setattr(XMuda, "learning_rate", 1e-1)
    wrong = copy.deepcopy(town.head)
    with torch.no_grad():
        wrong.linear.bias[[town.ROAD, town.BUILDING, town.NATURE]] -= 50
    adapter = XMuda(town.student, town.teacher, wrong)
    for seed in range(15):
        adapter.step(town.frame(seed), CONFIG)
    assert town.accuracy(weights=adapter.weights()) < town.accuracy() - 0.2
