"""Confusion matrices and the mean intersection over union that follows from them; confidence against correctness."""

from __future__ import annotations

import numpy as np

from tttkd_ros.classes import UNLABELLED

BINS = 15  # of confidence, as is usual for the expected calibration error (Guo et al., arXiv 1706.04599)


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count (truth, prediction) pairs: (classes, classes + 1) int64, rows truth.

    truth, predicted: (N,) uint8. Points whose truth is `UNLABELLED` are left out. The last column counts points that
    have a class but were answered with `UNLABELLED`, so that withholding an answer is never better than a wrong one.

    Raises ValueError where the lengths differ or an id is neither a class nor `UNLABELLED`.
    """
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} must both be (N,), point for point")
    for name, ids in (("truth", truth), ("predicted", predicted)):
        wrong = ids[(ids >= classes) & (ids != UNLABELLED)]
        if wrong.size:
            raise ValueError(f"{name} label {wrong[0]} is not below {classes} nor {UNLABELLED} (unlabelled)")
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    columns = classes + 1
    answers = torch.from_numpy(np.minimum(predicted, classes))  # withheld ones are a column of their own
    matrix = multiclass_confusion_matrix(
        answers, torch.from_numpy(truth.copy()), columns, ignore_index=UNLABELLED, validate_args=False
    )
    return matrix[:classes].numpy()


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (..., C) in 0..1, of matrices (..., C, C + 1); NaN without truth."""
    classes = matrix.shape[-2]
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    truth = matrix.sum(-1)
    union = truth + matrix[..., :classes].sum(-2) - hits
    return np.where(truth > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(matrix: np.ndarray) -> float:
    """mIoU in per cent of one matrix (C, C + 1), over the classes that its truth holds; NaN where it holds none."""
    iou = class_iou(matrix)
    return float(100.0 * np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def windowed_mean_iou(matrices: np.ndarray, window: int) -> np.ndarray:
    """mIoU in per cent over the `window` sweeps that end at each sweep, (S,), of per-sweep matrices (S, C, C + 1)."""
    if window < 1:
        raise ValueError(f"window is {window} sweeps, expected at least 1")
    total = np.concatenate((np.zeros_like(matrices[:1]), matrices)).cumsum(0)
    ends = np.arange(1, len(matrices) + 1)
    return np.array([mean_iou(total[end] - total[max(0, end - window)]) for end in ends])


def calibration(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """(BINS, 3) float64, to be summed over sweeps: points, sum of their confidence, how many of them are correct.

    confidence: (N,) in 0..1, of answers that have a truth. correct: (N,) bool.
    """
    place = np.searchsorted(np.linspace(0, 1, BINS + 1, dtype=np.float32)[1:-1], confidence, side="right")
    return np.stack([np.bincount(place, weight, BINS) for weight in (None, confidence, correct)], 1)


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error in per cent of `calibration`: by how much confidence and accuracy differ in a bin,
    mean over points; NaN without any."""
    points, confidence, correct = bins.T
    return float(100.0 * np.abs(confidence - correct).sum() / points.sum()) if points.any() else float("nan")
