import pytest
import torch

from tttkd_ros.adaptation.batch_norm import norms
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.baseline import IGNORED
from tttkd_ros.baselines.mm_tta import MMTTA, consistency, refine_pseudo_labels


def logits(*probabilities):
    return torch.tensor([probabilities]).log()


def test_consistency_is_the_mean_inverse_divergence():
    slow, fast = torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5])
    forward, backward = (slow * (slow / fast).log()).sum(), (fast * (fast / slow).log()).sum()
    expected = ((1 / forward + 1 / backward) / 2).item()
    assert consistency(logits(0.8, 0.2), logits(0.5, 0.5)).item() == pytest.approx(expected, rel=1e-5)


def test_consistency_of_equal_predictions_is_large_but_finite():
    equal = consistency(logits(0.8, 0.2), logits(0.8, 0.2))
    assert torch.isfinite(equal).all()
    assert equal > 1e5


def test_the_more_consistent_modality_decides():
    consistent, inconsistent = logits(0.3, 0.7), (logits(0.99, 0.01), logits(0.6, 0.4))
    assert refine_pseudo_labels(consistent, consistent, *inconsistent).tolist() == [1]
    assert refine_pseudo_labels(*inconsistent, consistent, consistent).tolist() == [1]


def test_equally_consistent_modalities_are_averaged():
    sure, unsure = (logits(0.1, 0.9), logits(0.1, 0.9)), (logits(0.6, 0.4), logits(0.6, 0.4))
    assert refine_pseudo_labels(*sure, *unsure).tolist() == [1]


def test_a_point_without_a_consistent_modality_is_ignored():
    inconsistent = (logits(0.9999, 0.0001), logits(0.0001, 0.9999))
    assert refine_pseudo_labels(*inconsistent, *inconsistent).tolist() == [IGNORED]


def test_the_slow_models_average_the_fast_ones_with_momentum_0_99(town):
    adapter = MMTTA(town.student, town.teacher, town.head)
    adapter.step(town.frame(0), TTTConfig(stride=1, steps=1))
    state = adapter._state
    for slow, fast, shipped in (
        (state.slow.backbone, state.student.backbone, town.student.backbone),
        (state.slow_head, state.head, town.head),
    ):
        averages, values = slow.state_dict(), fast.state_dict()
        for name, tensor in shipped.state_dict().items():
            if tensor.is_floating_point():
                assert torch.allclose(averages[name], 0.99 * tensor + 0.01 * values[name], atol=1e-6), name


def test_the_fast_model_is_published(town):
    adapter = MMTTA(town.student, town.teacher, town.head)
    adapter.step(town.frame(0), TTTConfig(stride=1, steps=1))
    published, shipped = adapter.weights().tensors, town.student.backbone.state_dict()
    name = next(name for name, module in town.student.backbone.named_modules() if module in norms(town.student))
    change = (published[f"{name}.weight"] - shipped[f"{name}.weight"]).abs()
    assert change.max().item() == pytest.approx(MMTTA.learning_rate, rel=1e-3)  # Adam's first step
