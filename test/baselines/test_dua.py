import pytest
import torch

from tttkd_ros.adaptation.batch_norm import norms
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.augmentation import AugmentedCloud
from tttkd_ros.baselines.dua import Dua

CONFIG = TTTConfig(stride=1, steps=1)


def test_the_momentum_decays_by_a_factor_of_0_94_towards_0_005_and_restarts_with_the_shipped_weights(town):
    dua = Dua(town.student)
    shipped, momenta = dua.weights(), []
    for seed in range(6):
        dua.step(town.frame(seed), CONFIG)
        (momentum,) = {norm.momentum for norm in norms(dua._state.student.backbone)}
        momenta.append(momentum)
    assert momenta == pytest.approx([0.1 * 0.94**k + 0.005 for k in range(1, 7)])
    assert momenta[:2] == pytest.approx([0.099, 0.09336])
    dua.load_weights(shipped)
    dua.step(town.frame(0), CONFIG)
    assert norms(dua._state.student.backbone)[0].momentum == pytest.approx(0.099)


def test_the_running_statistics_move_by_the_momentum_to_those_of_the_batch(town, monkeypatch):
    def unchanged(points, *_):
        return AugmentedCloud(points, torch.zeros(3))

    monkeypatch.setattr("tttkd_ros.baselines.dua.weak_augmentation", unchanged)
    frame = town.frame(0)
    first = norms(town.student.backbone)[0]  # its input does not depend on other norms
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


def test_each_copy_of_a_sweep_has_other_voxels(town, monkeypatch):
    batches = []
    monkeypatch.setattr("tttkd_ros.baselines.dua.update_bn_stats", lambda _, voxels, __: batches.append(voxels))
    monkeypatch.setattr("tttkd_ros.baselines.augmentation._rotation", lambda *_: torch.eye(3))
    Dua(town.student).step(town.frame(0), CONFIG)
    (voxels,) = batches
    copies = [voxels.indices[voxels.indices[:, 0] == copy, 1:] for copy in range(4)]
    shapes = {tuple((cells - cells.amin(0)).flatten().tolist()) for cells in copies}
    assert len(shapes) == 4
