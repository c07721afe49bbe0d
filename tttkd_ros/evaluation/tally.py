"""Counts of one run, updated sweep by sweep. Memory grows by a few numbers per sweep only."""

from __future__ import annotations

import numpy as np
import torch

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.evaluation.metrics import BINS, calibration, confusion
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.projection import project
from tttkd_ros.segmenter.segmenter import Prediction

SAMPLES = 5  # sweeps, evenly spaced up to the last one, whose labels are kept for pictures


class Tally:
    """Collects the arrays of a `Result`.

    sweeps: length of the drive. classes: number of classes.
    """

    def __init__(self, sweeps: int, classes: int):
        self._classes = classes
        self._sampled = set(np.linspace(-1, sweeps - 1, SAMPLES + 1)[1:].round().astype(int).tolist())
        self._stamps: list[int] = []
        self._matrices: list[np.ndarray] = []
        self._predicted: list[np.ndarray] = []
        self._agreement: list[tuple[int, int]] = []
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
