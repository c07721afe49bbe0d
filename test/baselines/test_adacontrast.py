import math

import pytest
import torch
from torch.nn.functional import normalize

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines import adacontrast
from tttkd_ros.baselines.adacontrast import AdaContrast, contrast, voted

CONFIG = TTTConfig(stride=1)


def parameters(student):
    return torch.cat([parameter.detach().flatten() for parameter in student.backbone.parameters()])


def test_the_momentum_encoder_follows_with_0_999(town):
    adapter = AdaContrast(town.student, 1e-2)
    shipped = parameters(town.student)
    adapter.step(town.frame(0), CONFIG)
    assert torch.allclose(parameters(adapter._state.encoder), shipped, atol=1e-7)  # follows before the step
    once = parameters(adapter._state.student)
    adapter.step(town.frame(1), CONFIG)
    assert torch.allclose(parameters(adapter._state.encoder), 0.999 * shipped + 0.001 * once, atol=1e-7)
    assert (once - shipped).abs().max() > 1e-3


def test_the_memories_hold_the_newest_points_and_no_more(town, monkeypatch):
    monkeypatch.setattr(adacontrast, "MEMORY", 1000)
    adapter, sizes, oldest = AdaContrast(town.student), [], []
    for seed in range(3):
        oldest.append(adapter._state.keys[-488:])  # 1000 less the 512 to come
        adapter.step(town.frame(seed), CONFIG)
        state = adapter._state
        sizes.append([len(each) for each in (state.features, state.probabilities, state.keys, state.key_labels)])
    assert sizes == [[512] * 4, [1000] * 4, [1000] * 4]
    assert torch.equal(adapter._state.keys[:488], oldest[-1])


def test_what_is_remembered_are_unit_keys_and_probabilities_without_gradient(town):
    adapter = AdaContrast(town.student)
    adapter.step(town.frame(0), CONFIG)
    state = adapter._state
    assert torch.allclose(state.keys.norm(dim=1), torch.ones(512), atol=1e-5)
    assert torch.allclose(state.probabilities.sum(1), torch.ones(512), atol=1e-5)
    assert not any(each.requires_grad for each in (state.features, state.probabilities, state.keys))


def test_pseudo_labels_are_the_soft_vote_of_the_nearest_by_cosine():
    near, far = torch.tensor([[3.0, 0.1]]).repeat(10, 1), torch.tensor([[0.0, 1.0]]).repeat(50, 1)
    # Six of ten neighbours lean a little to class 0, the other four are sure of class 1.
    votes = torch.tensor([[0.6, 0.4]] * 6 + [[0.0, 1.0]] * 4 + [[1.0, 0.0]] * 50)
    own = torch.tensor([[1.0, 0.0]])
    assert voted(torch.tensor([[1.0, 0.0]]), own, torch.cat([near, far]), votes).tolist() == [1]


def test_pseudo_labels_are_the_models_own_while_memory_is_too_short():
    own, memory, votes = torch.tensor([[0.4, 0.6]]), torch.ones(9, 2), torch.tensor([[1.0, 0.0]]).repeat(9, 1)
    assert voted(torch.ones(1, 2), own, memory, votes).tolist() == [1]


def test_contrast_leaves_out_keys_of_the_same_pseudo_label():
    queries = normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.zeros(4, dtype=torch.int64)
    assert contrast(queries, queries, labels, queries, labels).item() == pytest.approx(0.0, abs=1e-6)


def test_contrast_is_infonce_with_a_temperature_of_0_07():
    query, key, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.6, 0.8]])
    loss = contrast(query, key, torch.tensor([0]), other, torch.tensor([1])).item()
    assert loss == pytest.approx(math.log(1 + math.exp((0.6 - 0.8) / 0.07)), rel=1e-5)


def test_all_of_the_backbone_is_trained_and_the_statistics_follow(town):
    adapter = AdaContrast(town.student, 1e-2)
    before = adapter.weights().tensors
    adapter.step(town.frame(0), CONFIG)
    assert all(not torch.equal(tensor, before[name]) for name, tensor in adapter.weights().tensors.items())


def test_it_improves_on_the_source_model_under_noise(town):
    adapter = AdaContrast(town.student, 1e-2)
    for seed in range(12):
        adapter.step(town.frame(seed), CONFIG)
    assert town.accuracy(weights=adapter.weights()) > town.accuracy() + 0.05
