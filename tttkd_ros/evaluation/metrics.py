"""Confusion matrices, intersection over union (IoU) and calibration, counted sweep by sweep."""

from __future__ import annotations

import numpy as np
import torch

import tttkd_ros.torchvision_import  # noqa: F401 (before torchmetrics)

# isort: split
from torchmetrics.functional.classification import multiclass_confusion_matrix

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.projection import project
from tttkd_ros.segmenter.segmenter import Prediction

BINS = 15  # of confidence, the common choice for the expected calibration error (Guo et al., arXiv 1706.04599)
MIN_CLASS_SHARE = 0.01  # of the true points; the IoU of a rarer class depends on a few objects
SAMPLES = 5  # sweeps, evenly spaced up to the last one, whose labels are kept for pictures


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count (truth, prediction) pairs of class ids (N,) uint8 in a matrix (C, C + 1) int64, a row for each true class.

    Points whose truth is `UNLABELLED` are left out. Points predicted as `UNLABELLED` count as wrong, in the last
    column, so that leaving a point unlabelled never scores better than a wrong label. Raises ValueError if the lengths
    differ or an id is neither a class nor `UNLABELLED`.
    """
    if truth.shape != predicted.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} must both be (N,), point for point")
    for name, ids in (("truth", truth), ("predicted", predicted)):
        wrong = ids[(ids >= classes) & (ids != UNLABELLED)]
        if wrong.size:
            raise ValueError(f"{name} label {wrong[0]} is not below {classes} nor {UNLABELLED} (unlabelled)")
    labels = torch.from_numpy(np.minimum(predicted, classes))  # unlabelled points get the last column
    matrix = multiclass_confusion_matrix(
        labels, torch.from_numpy(truth.copy()), classes + 1, ignore_index=UNLABELLED, validate_args=False
    )
    return matrix[:classes].numpy()


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """IoU of each class, (..., C) in 0..1, of matrices (..., C, C + 1); NaN if a class has no truth."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    truth = matrix.sum(-1)
    union = truth + matrix[..., :-1].sum(-2) - hits
    return np.where(truth > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(matrix: np.ndarray) -> float:
    """mIoU in per cent of a matrix (C, C + 1) over the classes that have truth; NaN if none has."""
    iou = class_iou(matrix)
    return float(100.0 * np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")


def worst_class(matrix: np.ndarray, reference: np.ndarray) -> tuple[int, float] | None:
    """Find the class whose IoU changes for the worst between two runs on the same points.

    Args:
        matrix, reference: (C, C + 1).

    Returns its id and the change from the reference, in points of IoU. Classes below `MIN_CLASS_SHARE` are left out.
    None if there is no truth.
    """
    truth = reference.sum(1)
    if not truth.any():
        return None
    change = 100.0 * (class_iou(matrix) - class_iou(reference))
    worst = int(np.where(truth >= MIN_CLASS_SHARE * truth.sum(), change, np.inf).argmin())
    return worst, float(change[worst])


def windowed_mean_iou(matrices: np.ndarray, window: int) -> np.ndarray:
    """mIoU in per cent over the `window` sweeps ending at each sweep, (S,), of per-sweep matrices (S, C, C + 1)."""
    total = np.concatenate((np.zeros_like(matrices[:1]), matrices)).cumsum(0)
    return np.array([mean_iou(total[end] - total[max(0, end - window)]) for end in range(1, len(matrices) + 1)])


def calibration(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Histogram of the confidence (N,) in 0..1 of predicted points that have truth, to be added up over sweeps.

    correct: (N,) bool. Returns (BINS, 3) float64: number of points, sum of their confidence, number of correct ones.
    """
    place = np.searchsorted(np.linspace(0, 1, BINS + 1, dtype=np.float32)[1:-1], confidence, side="right")
    return np.stack([np.bincount(place, weight, BINS) for weight in (None, confidence, correct)], 1)


def calibration_error(bins: np.ndarray) -> float:
    """Expected calibration error in per cent, of the bins from `calibration`; NaN without points.

    This is the difference between confidence and accuracy of a bin, averaged over points.
    """
    points, confidence, correct = bins.T
    return float(100.0 * np.abs(confidence - correct).sum() / points.sum()) if points.any() else float("nan")


class Tally:
    """Collects the arrays of a `Result` over a drive. Memory grows by a few numbers per sweep only."""

    def __init__(self, sweeps: int, classes: int):
        self._classes = classes
        self._sampled = set(np.linspace(-1, sweeps - 1, SAMPLES + 1)[1:].round().astype(int).tolist())
        self._stamps, self._matrices, self._predicted, self._agreement = [], [], [], []
        self._calibration = np.zeros((BINS, 3))
        self._samples: dict[int, np.ndarray] = {}

    def add(self, frame: Frame, prediction: Prediction, reference: np.ndarray | None = None) -> None:
        """Count one sweep. reference: the frozen student's labels (N,) uint8, given for all sweeps or for none."""
        labels = prediction.labels
        if len(self._stamps) in self._sampled:
            self._samples[frame.stamp] = labels.copy()
        self._stamps.append(frame.stamp)
        self._matrices.append(score(frame, labels, self._classes))
        self._predicted.append(np.bincount(np.minimum(labels, self._classes), minlength=self._classes + 1))
        if reference is not None:
            self._agreement.append((int((labels == reference).sum()), len(labels)))
        if frame.labels is not None:
            known = (frame.labels != UNLABELLED) & (labels != UNLABELLED)
            self._calibration += calibration(prediction.confidence[known], labels[known] == frame.labels[known])

    def arrays(self) -> dict:
        """The counted fields of a `Result`. Raises ValueError if there was no sweep."""
        if not self._stamps:
            raise ValueError("the drive has no sweep: nothing to evaluate")
        return {
            "stamps": np.array(self._stamps, np.int64),
            "matrices": np.stack(self._matrices),
            "predicted": np.stack(self._predicted),
            "agreement": np.array(self._agreement, np.int64) if self._agreement else None,
            "calibration": self._calibration,
            "samples": self._samples,
        }


def score(frame: Frame, labels: np.ndarray, classes: int) -> np.ndarray:
    """Confusion matrices (2, C, C + 1) of one sweep's labels (N,): points no camera sees, points one does.

    Zeros if the sweep has no truth.
    """
    if frame.labels is None:
        return np.zeros((2, classes, classes + 1), np.int64)
    visible = visible_points(frame)
    return np.stack([confusion(frame.labels[group], labels[group], classes) for group in (~visible, visible)])


def visible_points(frame: Frame) -> np.ndarray:
    """(N,) bool: whether at least one of the frame's cameras sees the point."""
    visible = np.zeros(len(frame.points), bool)
    points = torch.tensor(frame.projectable)  # a copy: a bag's arrays are read-only
    for view in frame.views:
        visible |= project(points, view.camera, view.camera_from_lidar).visible.numpy()
    return visible
