import numpy as np
import pytest
import torch
from torchmetrics.classification import BinaryCalibrationError
from torchmetrics.functional.classification import multiclass_jaccard_index

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.evaluation.metrics import (
    BINS,
    calibration,
    calibration_error,
    class_iou,
    confusion,
    mean_iou,
    windowed_mean_iou,
    worst_class,
)


def labels(*ids):
    return np.array(ids, np.uint8)


def test_confusion_counts_pairs_and_ignores_points_without_truth():
    matrix = confusion(labels(0, 0, 1, UNLABELLED), labels(0, 1, 1, 0), 2)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0]]


def test_unlabelled_points_count_as_misses_of_their_class_only():
    matrix = confusion(labels(0, 0, 1), labels(0, UNLABELLED, 1), 2)
    assert class_iou(matrix).tolist() == [0.5, 1.0]


def test_classes_without_truth_are_left_out_of_the_mean():
    matrix = confusion(labels(0, 0, 0, 0), labels(0, 0, 0, 2), 3)
    assert np.isnan(class_iou(matrix)[1:]).all()
    assert mean_iou(matrix) == pytest.approx(75.0)


def test_mean_iou_agrees_with_torchmetrics_where_every_class_occurs():
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 10, (2, 5000)).astype(np.uint8)
    expected = multiclass_jaccard_index(
        torch.from_numpy(predicted).long(), torch.from_numpy(truth).long(), 10
    )
    assert mean_iou(confusion(truth, predicted, 10)) == pytest.approx(100 * float(expected), abs=1e-3)


def test_without_truth_miou_is_nan():
    assert np.isnan(mean_iou(confusion(labels(UNLABELLED), labels(0), 3)))
    assert confusion(labels(), labels(), 3).sum() == 0


def hits(*shares):
    """Matrix of 1000 points of each class but the last, which has ten; shares of them are labelled right."""
    points = np.array([1000] * (len(shares) - 1) + [10])
    right = (points * np.array(shares)).astype(int)
    return np.column_stack([np.diag(right), points - right])


def test_the_worst_class_is_the_one_that_loses_most_iou():
    assert worst_class(hits(0.5, 0.2, 0.6), hits(0.4, 0.5, 0.6)) == (1, pytest.approx(-30))


def test_a_class_with_under_one_per_cent_of_the_points_is_never_the_worst():
    assert worst_class(hits(0.5, 0.6, 0.0), hits(0.4, 0.4, 1.0)) == (0, pytest.approx(10))


def test_without_truth_no_class_is_the_worst():
    assert worst_class(np.zeros((3, 4)), np.zeros((3, 4))) is None


def test_windows_hold_the_last_sweeps_only():
    right, wrong = confusion(labels(0), labels(0), 2), confusion(labels(0), labels(1), 2)
    assert windowed_mean_iou(np.stack([wrong, right, right]), 2).tolist() == [0.0, 50.0, 100.0]


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [(labels(0, 1), labels(0), "point for point"), (labels(7), labels(0), "truth label 7"),
     (labels(0), labels(3), "predicted label 3")],
)
def test_wrong_shapes_and_ids_are_refused(truth, predicted, message):
    with pytest.raises(ValueError, match=message):
        confusion(truth, predicted, 3)


def test_calibration_error_agrees_with_torchmetrics():
    generator = np.random.default_rng(0)
    confidence = generator.random(4000, np.float32)
    correct = generator.random(4000) < confidence**2
    bins = sum(calibration(confidence[part], correct[part]) for part in (slice(1000), slice(1000, None)))
    reference = BinaryCalibrationError(n_bins=BINS)(torch.tensor(confidence), torch.tensor(correct).int())
    assert calibration_error(bins) == pytest.approx(100 * float(reference), abs=1e-3)


def test_full_confidence_counts_in_the_last_bin():
    bins = calibration(np.array([0.0, 1.0, 0.99], np.float32), np.array([False, True, False]))
    assert bins[:, 0].tolist() == [1] + [0] * (BINS - 2) + [2]
    assert calibration_error(bins) == pytest.approx(33.0)


def test_without_predictions_calibration_error_is_nan():
    assert np.isnan(calibration_error(calibration(np.empty(0, np.float32), np.empty(0, bool))))
