import pytest
import torch

from tttkd_ros.adaptation.loss import distillation_loss


def test_loss_is_the_negative_mean_cosine():
    predicted = torch.tensor([[1.0, 0], [0, 3], [2, 0]])
    target = torch.tensor([[5.0, 0], [0, -1], [0, 1]])
    assert distillation_loss(predicted, target) == pytest.approx(-(1 - 1 + 0) / 3)


def test_gradient_turns_the_prediction_towards_the_target():
    predicted = torch.tensor([[1.0, 0]], requires_grad=True)
    distillation_loss(predicted, torch.tensor([[0.0, 1]])).backward()
    assert predicted.grad[0, 1] < 0


def test_a_zero_prediction_has_a_finite_gradient():
    predicted = torch.zeros(2, 3, requires_grad=True)
    distillation_loss(predicted, torch.ones(2, 3)).backward()
    assert predicted.grad.isfinite().all()
