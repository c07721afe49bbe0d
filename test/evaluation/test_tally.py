from dataclasses import replace

import numpy as np
import pytest

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.evaluation.metrics import SAMPLES, Tally, score
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.segmenter import Prediction

LABELS = np.array([0, 1, 1, UNLABELLED], np.uint8)


def frame(stamp=0, truth=LABELS):
    return Frame(stamp, np.zeros((4, 3), np.float32), labels=truth)


def prediction(*labels):
    return Prediction(np.array(labels, np.uint8), np.full(4, 0.75, np.float32), 0)


def test_predictions_are_counted_including_unlabelled():
    tally = Tally(1, 2)
    tally.add(frame(), prediction(0, 0, UNLABELLED, 1))
    arrays = tally.arrays()
    assert arrays["predicted"].tolist() == [[2, 1, 1]]
    assert arrays["matrices"].sum((0, 1)).tolist() == [[1, 0, 0], [1, 0, 1]]


def test_calibration_counts_predictions_with_truth():
    tally = Tally(1, 2)
    tally.add(frame(), prediction(0, 0, UNLABELLED, 1))
    assert tally.arrays()["calibration"].sum(0).tolist() == [2, 1.5, 1]


def test_agreement_counts_all_points():
    tally = Tally(1, 2)
    tally.add(frame(), prediction(0, 0, UNLABELLED, 1), np.array([0, 1, UNLABELLED, 1], np.uint8))
    assert tally.arrays()["agreement"].tolist() == [[3, 4]]


def test_without_truth_everything_but_the_score_is_counted():
    tally = Tally(1, 2)
    tally.add(replace(frame(), labels=None), prediction(0, 0, 1, 1))
    arrays = tally.arrays()
    assert arrays["predicted"].tolist() == [[2, 2, 0]]
    assert not arrays["matrices"].any() and not arrays["calibration"].any()
    assert score(frame(truth=None), LABELS, 2).shape == (2, 2, 3)


@pytest.mark.parametrize(("sweeps", "kept"), [(2, [0, 1]), (11, [1, 3, 6, 8, 10])])
def test_labels_of_a_few_sweeps_up_to_the_last_are_kept(sweeps, kept):
    tally = Tally(sweeps, 2)
    for stamp in range(sweeps):
        tally.add(frame(stamp), prediction(stamp % 2, 0, 0, 0))
    samples = tally.arrays()["samples"]
    assert list(samples) == kept and len(samples) <= SAMPLES
    assert [labels[0] for labels in samples.values()] == [stamp % 2 for stamp in kept]


def test_no_sweep_is_refused():
    with pytest.raises(ValueError, match="no sweep"):
        Tally(0, 2).arrays()
