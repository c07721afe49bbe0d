import pytest
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.mm_tta import IGNORED, MMTTA, agreement, refined

CONFIG = TTTConfig(stride=1)


def logits(*probabilities):
    return torch.tensor([probabilities]).log()


def test_agreement_is_the_mean_inverse_divergence():
    slow, fast = torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5])
    forth, back = (slow * (slow / fast).log()).sum(), (fast * (fast / slow).log()).sum()
    expected = ((1 / forth + 1 / back) / 2).item()
    assert agreement(logits(0.8, 0.2), logits(0.5, 0.5)).item() == pytest.approx(expected, rel=1e-5)


def test_agreement_of_equal_answers_is_large_but_finite():
    same = agreement(logits(0.8, 0.2), logits(0.8, 0.2))
    assert torch.isfinite(same).all()
    assert same > 1e5


def test_the_modality_whose_models_agree_has_the_say():
    steady, torn = logits(0.3, 0.7), (logits(0.99, 0.01), logits(0.6, 0.4))
    assert refined(steady, steady, *torn).tolist() == [1]
    assert refined(*torn, steady, steady).tolist() == [1]


def test_modalities_that_agree_equally_are_averaged():
    sure, unsure = (logits(0.1, 0.9), logits(0.1, 0.9)), (logits(0.6, 0.4), logits(0.6, 0.4))
    assert refined(*sure, *unsure).tolist() == [1]


def test_a_point_on_which_no_modality_agrees_with_itself_is_left_out():
    torn = (logits(0.9999, 0.0001), logits(0.0001, 0.9999))
    assert refined(*torn, *torn).tolist() == [IGNORED]


def test_the_slow_models_follow_the_fast_ones_with_0_99(town):
    adapter = MMTTA(town.student, town.teacher, town.head, 1e-2)
    adapter.step(town.frame(0), CONFIG)
    state = adapter._state
    for slow, fast, shipped in (
        (state.student.backbone, state.fast.backbone, town.student.backbone),
        (state.head, state.fast_head, town.head),
    ):
        tensors, theirs = slow.state_dict(), fast.state_dict()
        for name, tensor in shipped.state_dict().items():
            if tensor.is_floating_point():
                assert torch.allclose(tensors[name], 0.99 * tensor + 0.01 * theirs[name], atol=1e-6), name


def test_the_slow_model_is_the_one_that_is_handed_over(town):
    adapter = MMTTA(town.student, town.teacher, town.head, 1e-2)
    adapter.step(town.frame(0), CONFIG)
    slow = adapter._state.student.backbone.state_dict()
    assert all(torch.equal(tensor, slow[name]) for name, tensor in adapter.weights().tensors.items())


def test_scale_shift_and_statistics_change_and_nothing_else(town):
    adapter = MMTTA(town.student, town.teacher, town.head, 1e-2)
    before = adapter.weights().tensors
    adapter.step(town.frame(0), CONFIG)
    changed = {name for name, tensor in adapter.weights().tensors.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if ".activation.0." in f".{name}"}


def test_it_improves_on_the_source_model_under_noise(town):
    adapter = MMTTA(town.student, town.teacher, town.head, 1e-2)
    for seed in range(40):
        adapter.step(town.frame(seed), CONFIG)
    assert town.accuracy(weights=adapter.weights()) > town.accuracy() + 0.03
