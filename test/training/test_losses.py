"""The losses against slow references, and without points."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.training.losses import class_weights, cross_entropy, distillation, lovasz_softmax


@pytest.fixture
def logits():
    return torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def labels():
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(1))  # class 3 never occurs
    labels[::7] = UNLABELLED
    return labels


def slow_lovasz(logits, labels):
    """The Lovasz extension of the Jaccard loss by its definition: a sum over sorted errors of set function steps."""
    known = [point for point in range(len(labels)) if labels[point] != UNLABELLED]
    losses = []
    for number in sorted({int(labels[point]) for point in known}):
        error = {}
        for point in known:
            probability = logits[point].softmax(0)[number].item()
            error[point] = 1 - probability if labels[point] == number else probability
        truth = {point for point in known if labels[point] == number}

        def jaccard_loss(wrong, truth=truth):
            return len(wrong) / len(truth | wrong) if wrong else 0.0

        wrong, loss = set(), 0.0
        for point in sorted(known, key=lambda each: -error[each]):
            loss += error[point] * (jaccard_loss(wrong | {point}) - jaccard_loss(wrong))
            wrong.add(point)
        losses.append(loss)
    return sum(losses) / len(losses)


def test_lovasz_is_that_of_its_definition(logits, labels):
    assert lovasz_softmax(logits, labels).item() == pytest.approx(slow_lovasz(logits.detach(), labels), rel=1e-5)


def test_lovasz_falls_with_its_gradient(logits, labels):
    before = lovasz_softmax(logits, labels)
    before.backward()
    assert lovasz_softmax(logits.detach() - 5 * logits.grad, labels) < before


def test_cross_entropy_has_weights_and_smoothing(logits, labels):
    weights = torch.tensor([1.0, 2, 3, 4])
    known = labels != UNLABELLED
    log, truth = logits.log_softmax(1)[known].detach(), labels[known]
    plain = -(weights[truth] * log[range(len(truth)), truth]).sum() / weights[truth].sum()
    assert cross_entropy(logits, labels, weights).item() == pytest.approx(plain.item(), rel=1e-5)
    uniform = -(weights * log).sum() / weights[truth].sum() / 4
    smooth = 0.8 * plain + 0.2 * uniform
    assert cross_entropy(logits, labels, weights, 0.2).item() == pytest.approx(smooth.item(), rel=1e-5)


def test_distillation_is_the_negative_cosine():
    predicted, target = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0))
    assert distillation(predicted, target) == -cosine_similarity(predicted, target, dim=1).mean()


def test_without_points_each_loss_is_0_with_a_gradient(logits):
    nothing = torch.full((60,), UNLABELLED)
    empty = logits[:0]
    for loss in (cross_entropy(logits, nothing), lovasz_softmax(logits, nothing), distillation(empty, empty)):
        assert loss == 0
        logits.grad = None
        loss.backward()
        assert logits.grad.abs().max() == 0


def test_rare_classes_count_more():
    weights = class_weights(torch.tensor([1000, 100, 0]))
    assert weights[0] < weights[1] < weights[2] < 20 * weights[0]
    assert weights.mean().item() == pytest.approx(1)
