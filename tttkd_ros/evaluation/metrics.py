"""Confusion matrices, intersection over union (IoU) and calibration."""

from __future__ import annotations

import numpy as np

from tttkd_ros.classes import UNLABELLED

BINS = 15  # of confidence, the common choice for the expected calibration error (Guo et al., arXiv 1706.04599)


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count (truth, prediction) pairs.

    Points whose truth is `UNLABELLED` are left out. Points predicted as `UNLABELLED` count as wrong, so that leaving a
    point unlabelled never scores better than a wrong label.

    Args:
        truth, predicted: (N,) uint8 class ids.
        classes: number of classes, C.

    Returns:
        (C, C + 1) int64. A row for each true class; the last column counts points predicted as `UNLABELLED`.

    Raises:
        ValueError: the lengths differ, or an id is neither a class nor `UNLABELLED`.
    """
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} must both be (N,), point for point")
    for name, ids in (("truth", truth), ("predicted", predicted)):
        wrong = ids[(ids >= classes) & (ids != UNLABELLED)]
        if wrong.size:
            raise ValueError(f"{name} label {wrong[0]} is not below {classes} nor {UNLABELLED} (unlabelled)")
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    labels = torch.from_numpy(np.minimum(predicted, classes))  # unlabelled points get the last column
    matrix = multiclass_confusion_matrix(
        labels, torch.from_numpy(truth.copy()), classes + 1, ignore_index=UNLABELLED, validate_args=False
    )
    return matrix[:classes].numpy()


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """IoU of each class, (..., C) in 0..1, of matrices (..., C, C + 1); NaN if a class has no truth."""
    classes = matrix.shape[-2]
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    truth = matrix.sum(-1)
    union = truth + matrix[..., :classes].sum(-2) - hits
    return np.where(truth > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(matrix: np.ndarray) -> float:
    """mIoU in per cent of a matrix (C, C + 1) over the classes that have truth; NaN if none has."""
    iou = class_iou(matrix)
    return float(100.0 * np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def windowed_mean_iou(matrices: np.ndarray, window: int) -> np.ndarray:
    """mIoU in per cent over the `window` sweeps ending at each sweep, (S,), of per-sweep matrices (S, C, C + 1)."""
    if window < 1:
        raise ValueError(f"window is {window} sweeps, expected at least 1")
    total = np.concatenate((np.zeros_like(matrices[:1]), matrices)).cumsum(0)
    ends = np.arange(1, len(matrices) + 1)
    return np.array([mean_iou(total[end] - total[max(0, end - window)]) for end in ends])


def calibration(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Histogram of confidence, to be added up over sweeps.

    Args:
        confidence: (N,) in 0..1, of predicted points that have truth.
        correct: (N,) bool.

    Returns:
        (BINS, 3) float64: number of points, sum of their confidence, number of correct ones.
    """
    place = np.searchsorted(np.linspace(0, 1, BINS + 1, dtype=np.float32)[1:-1], confidence, side="right")
    return np.stack([np.bincount(place, weight, BINS) for weight in (None, confidence, correct)], 1)


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error in per cent, of the bins from `calibration`; NaN without points.

    This is the difference between confidence and accuracy of a bin, averaged over points.
    """
    points, confidence, correct = bins.T
    return float(100.0 * np.abs(confidence - correct).sum() / points.sum()) if points.any() else float("nan")
