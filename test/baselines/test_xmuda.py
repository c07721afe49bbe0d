import copy

import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.xmuda import IGNORED, XMuda, pseudo_labels

CONFIG = TTTConfig(stride=1)


def logits(*confidences, winner=0):
    """Rows of two classes with these probabilities of the winner."""
    sure = torch.tensor(confidences)
    return torch.stack([sure, 1 - sure] if winner == 0 else [1 - sure, sure], 1).log()


def test_pseudo_labels_are_kept_from_the_median_of_their_class_on():
    mixed = torch.cat([logits(0.6, 0.7, 0.8), logits(0.55, 0.56, 0.57, winner=1)])
    assert pseudo_labels(mixed).tolist() == [IGNORED, 0, 0, IGNORED, 1, 1]


def test_pseudo_labels_above_0_9_are_all_kept():
    assert pseudo_labels(logits(0.85, 0.92, 0.95, 0.99)).tolist() == [IGNORED, 0, 0, 0]


def test_scale_shift_and_statistics_change_and_nothing_else(town):
    adapter = XMuda(town.student, town.teacher, town.head, 1e-2)
    before = adapter.weights().tensors
    adapter.step(town.frame(0), CONFIG)
    changed = {name for name, tensor in adapter.weights().tensors.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if ".activation.0." in f".{name}"}


def test_both_branches_adapt(town):
    adapter = XMuda(town.student, town.teacher, town.head, 1e-2)
    adapter.step(town.frame(0), CONFIG)
    head = adapter._state.head
    assert not torch.equal(head.norm.weight, town.head.norm.weight)
    assert torch.equal(head.linear.weight, town.head.linear.weight)


def test_the_3d_branch_learns_from_what_the_2d_branch_says(town, monkeypatch):
    """Without pseudo labels, an image branch that is wrong about everything makes the student wrong as well."""
    monkeypatch.setattr("tttkd_ros.baselines.xmuda.PSEUDO_LABELS", 0.0)
    monkeypatch.setattr("tttkd_ros.baselines.xmuda.CONSISTENCY", 1.0)
    wrong = copy.deepcopy(town.head)
    with torch.no_grad():
        wrong.linear.bias[[town.ROAD, town.BUILDING, town.NATURE]] -= 50
    adapter = XMuda(town.student, town.teacher, wrong, 1e-1)
    for seed in range(20):
        adapter.step(town.frame(seed), CONFIG)
    assert town.accuracy(weights=adapter.weights()) < town.accuracy() - 0.2


def test_it_improves_on_the_source_model_under_noise(town):
    adapter = XMuda(town.student, town.teacher, town.head, 1e-2)
    for seed in range(20):
        adapter.step(town.frame(seed), CONFIG)
    assert town.accuracy(weights=adapter.weights()) > town.accuracy() + 0.05
