import pytest
import torch

from tttkd_ros.adaptation.batch_norm import norms
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.dua import Dua

CONFIG = TTTConfig(stride=1)


def test_the_momentum_decays_by_a_factor_of_0_94_towards_0_005(town):
    dua, seen = Dua(town.student), []
    for seed in range(6):
        dua.step(town.frame(seed), CONFIG)
        used = {norm.momentum for norm in norms(dua._state.student.backbone)}
        assert len(used) == 1
        seen += used
    assert seen == pytest.approx([0.099, 0.09336, 0.0880584, 0.083074896, 0.07839040224, 0.0739869781])
    assert seen == pytest.approx([0.1 * 0.94**k + 0.005 for k in range(1, 7)])


def test_the_momentum_starts_again_with_the_shipped_weights(town):
    dua = Dua(town.student)
    shipped = dua.weights()
    for _ in range(2):
        dua.step(town.frame(0), CONFIG)
    dua.load_weights(shipped)
    dua.step(town.frame(0), CONFIG)
    assert norms(dua._state.student.backbone)[0].momentum == pytest.approx(0.099)


def test_the_running_statistics_take_that_share_of_the_batchs(town, monkeypatch):
    monkeypatch.setattr("tttkd_ros.baselines.dua.weak", lambda points, _: points)
    frame = town.frame(0)
    first = norms(town.student.backbone)[0]  # what it sees does not depend on other norms
    batch = {}
    hook = first.register_forward_hook(lambda _, inputs, __: batch.update(rows=inputs[0].detach().clone()))
    with torch.no_grad():
        town.student(torch.tensor(frame.points))
    hook.remove()
    dua = Dua(town.student)
    dua.step(frame, CONFIG)
    name = next(name for name, module in town.student.backbone.named_modules() if module is first)
    expected = 0.901 * first.running_mean + 0.099 * batch["rows"].mean(0)
    assert torch.allclose(dua.weights().tensors[f"{name}.running_mean"], expected, atol=1e-5)


def test_running_statistics_change_and_nothing_else(town):
    dua = Dua(town.student)
    before = dua.weights().tensors
    dua.step(town.frame(0), CONFIG)
    changed = {name for name, tensor in dua.weights().tensors.items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.endswith(("running_mean", "running_var"))}


def test_it_improves_on_the_source_model_under_noise_within_a_few_samples(town):
    dua = Dua(town.student)
    for seed in range(10):
        dua.step(town.frame(seed), CONFIG)
    assert town.accuracy(weights=dua.weights()) > town.accuracy() + 0.03
