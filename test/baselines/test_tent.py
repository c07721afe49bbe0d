import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.batch_norm import with_batch_statistics
from tttkd_ros.baselines.tent import Tent
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.segmenter.segmenter import Segmenter

CONFIG = TTTConfig(stride=1, steps=1)


def test_a_learning_rate_of_0_is_batch_normalisation_with_the_batchs_statistics(town, monkeypatch):
    monkeypatch.setattr(Tent, "learning_rate", 0.0)
    predictor = with_batch_statistics(town.student)
    tent = Pipeline(predictor, lambda: Tent(town.student), CONFIG, background=False)
    alone = Segmenter(predictor)
    for seed in range(3):
        frame = town.frame(seed)
        adapted, expected = tent.segment(frame.points), alone.segment(frame.points)
        tent.adapt(seed, lambda f=frame: f)
        np.testing.assert_array_equal(adapted.labels, expected.labels)
        np.testing.assert_array_equal(adapted.confidence, expected.confidence)
    tent.close()
    assert tent.status.counters.accepted == 3


def test_the_loss_is_the_entropy_of_the_predictions_with_the_sweeps_own_statistics(town):
    frame = town.frame(0)
    predictor = with_batch_statistics(town.student)
    with torch.no_grad():
        logits = predictor.logits(predictor(torch.tensor(frame.points)))
    entropy = torch.distributions.Categorical(logits=logits).entropy().mean().item()
    assert Tent(town.student).step(frame, CONFIG).loss == pytest.approx(entropy, rel=1e-5)


def test_entropy_and_error_fall_below_those_of_batch_statistics(town, monkeypatch):
    monkeypatch.setattr(Tent, "learning_rate", 1e-2)
    tent = Tent(town.student)
    losses = [tent.step(town.frame(seed), CONFIG).loss for seed in range(20)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    predictor = with_batch_statistics(town.student)
    assert town.accuracy(predictor, tent.weights()) > town.accuracy(predictor) + 0.01
