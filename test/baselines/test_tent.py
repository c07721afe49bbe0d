import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.batch_norm import with_batch_statistics
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.tent import Tent
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.segmenter.segmenter import Segmenter

CONFIG = TTTConfig(stride=1)


def test_a_learning_rate_of_0_is_batch_normalisation_by_the_batchs_statistics(town):
    predictor = with_batch_statistics(town.student)
    tent = Pipeline(predictor, lambda: Tent(town.student, learning_rate=0.0), CONFIG, background=False)
    alone = Segmenter(predictor)
    for seed in range(5):
        frame = town.frame(seed)
        adapted, expected = tent.process(seed, frame.points, lambda f=frame: f), alone.segment(frame.points)
        np.testing.assert_array_equal(adapted.labels, expected.labels)
        np.testing.assert_array_equal(adapted.confidence, expected.confidence)
    tent.close()
    assert tent.counters.accepted == 5


def test_scale_and_shift_of_all_norms_change_and_nothing_else(town):
    tent = Tent(town.student, 1e-2)
    before = tent.weights().tensors
    tent.step(town.frame(0), CONFIG)
    changed = {name for name, tensor in tent.weights().tensors.items() if not torch.equal(tensor, before[name])}
    assert changed == {n for n in before if "activation.0" in n and n.rpartition(".")[2] in ("weight", "bias")}


def test_the_loss_is_the_entropy_of_the_predictions_with_the_sweeps_own_statistics(town):
    frame = town.frame(0)
    predictor = with_batch_statistics(town.student)
    with torch.no_grad():
        logits = predictor.logits(predictor(torch.tensor(frame.points)))
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean().item()
    assert Tent(town.student).step(frame, CONFIG).loss == pytest.approx(entropy, rel=1e-5)


def test_the_entropy_falls(town):
    tent = Tent(town.student, 1e-2)
    losses = [tent.step(town.frame(seed), CONFIG).loss for seed in range(20)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_it_improves_on_batch_statistics_under_noise_as_they_do_on_the_source_model(town):
    predictor = with_batch_statistics(town.student)
    tent = Tent(town.student, 1e-2)
    for seed in range(20):
        tent.step(town.frame(seed), CONFIG)
    assert town.accuracy(predictor) > town.accuracy() + 0.03
    assert town.accuracy(predictor, tent.weights()) > town.accuracy(predictor) + 0.01
