import math

import pytest
import torch
from torch.nn.functional import normalize

from tttkd_ros.adaptation.batch_norm import norms
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines import adacontrast
from tttkd_ros.baselines.adacontrast import AdaContrast, contrastive_loss, vote_pseudo_labels
from tttkd_ros.segmenter.student import Student, StudentConfig

CONFIG = TTTConfig(stride=1, steps=1)


def parameters(student):
    return torch.cat([parameter.detach().flatten() for parameter in student.backbone.parameters()])


def test_the_momentum_encoder_is_updated_with_0_999_before_each_step(town, monkeypatch):
    monkeypatch.setattr(AdaContrast, "learning_rate", 1e-2)
    adapter = AdaContrast(town.student)
    shipped = parameters(town.student)
    adapter.step(town.frame(0), CONFIG)
    assert torch.allclose(parameters(adapter._state.encoder), shipped, atol=1e-7)
    once = parameters(adapter._state.student)
    adapter.step(town.frame(1), CONFIG)
    assert torch.allclose(parameters(adapter._state.encoder), 0.999 * shipped + 0.001 * once, atol=1e-7)
    assert (once - shipped).abs().max() > 1e-3


def test_each_augmented_view_has_other_voxels(town, monkeypatch):
    adapter, views = AdaContrast(town.student), []
    forward = Student.forward

    def spy(student, points, offsets=None):
        views.append((len(points), tuple(offsets[0].tolist())))
        return forward(student, points, offsets)

    monkeypatch.setattr(Student, "forward", spy)
    adapter.step(town.frame(0), CONFIG)
    sizes, offsets = zip(*views, strict=True)
    assert sizes == (1100,) * 4
    assert len(set(offsets)) == 3  # the weak view serves twice


def test_the_queues_hold_the_newest_points_up_to_their_size(town, monkeypatch):
    monkeypatch.setattr(adacontrast, "QUEUE_SIZE", 1000)
    adapter, sizes, oldest = AdaContrast(town.student), [], []
    for seed in range(3):
        oldest.append(adapter._state.keys[-488:])  # 1000 - 512
        adapter.step(town.frame(seed), CONFIG)
        state = adapter._state
        sizes.append([len(rows) for rows in (state.features, state.probabilities, state.keys, state.key_labels)])
    assert sizes == [[512] * 4, [1000] * 4, [1000] * 4]
    assert torch.equal(adapter._state.keys[:488], oldest[-1])
    assert torch.allclose(state.keys.norm(dim=1), torch.ones(1000), atol=1e-5)
    assert torch.allclose(state.probabilities.sum(1), torch.ones(1000), atol=1e-5)
    assert not any(rows.requires_grad for rows in (state.features, state.probabilities, state.keys))


def test_pseudo_labels_are_the_soft_vote_of_the_nearest_by_cosine():
    near, far = torch.tensor([[3.0, 0.1]]).repeat(10, 1), torch.tensor([[0.0, 1.0]]).repeat(50, 1)
    # Six of ten neighbours slightly prefer class 0, the other four are sure of class 1.
    votes = torch.tensor([[0.6, 0.4]] * 6 + [[0.0, 1.0]] * 4 + [[1.0, 0.0]] * 50)
    own = torch.tensor([[1.0, 0.0]])
    assert vote_pseudo_labels(torch.tensor([[1.0, 0.0]]), own, torch.cat([near, far]), votes).tolist() == [1]


def test_pseudo_labels_are_the_models_own_while_too_few_features_are_stored():
    own, stored, votes = torch.tensor([[0.4, 0.6]]), torch.ones(9, 2), torch.tensor([[1.0, 0.0]]).repeat(9, 1)
    assert vote_pseudo_labels(torch.ones(1, 2), own, stored, votes).tolist() == [1]


def test_keys_of_the_same_pseudo_label_are_no_negatives():
    queries = normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.zeros(4, dtype=torch.int64)
    assert contrastive_loss(queries, queries, labels, queries, labels).item() == pytest.approx(0.0, abs=1e-6)


def test_the_contrastive_loss_is_infonce_with_a_temperature_of_0_07():
    query, key, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]]), torch.tensor([[0.6, 0.8]])
    loss = contrastive_loss(query, key, torch.tensor([0]), other, torch.tensor([1])).item()
    assert loss == pytest.approx(math.log(1 + math.exp((0.6 - 0.8) / 0.07)), rel=1e-5)


def test_a_network_that_draws_at_random_in_training_does_not_while_it_adapts(town):
    options = dict(channels=(16, 32), depths=(1, 1), heads=(1, 2), decoder_channels=(16,), decoder_depths=(1,),
                   decoder_heads=(1,), strides=(2,), patch_size=64, drop_path=0.5)
    torch.manual_seed(0)
    student = Student(StudentConfig(voxel_size=0.3, backbone="ptv3", options=options)).eval()
    before = torch.get_rng_state()
    adapter = AdaContrast(student)
    assert adapter.step(town.frame(0), CONFIG).accepted
    assert torch.equal(torch.get_rng_state(), before)
    assert not adapter._state.student.backbone.training
    assert all(norm.training for norm in norms(adapter._state.student.backbone))
