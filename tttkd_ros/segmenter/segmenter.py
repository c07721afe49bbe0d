"""The inference replica: points in, labels out."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.devices import CudaStream
from tttkd_ros.diagnosis import explain_range, kind_of
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.student import MAX_VOXELS, Student
from tttkd_ros.segmenter.voxels import rotations as evenly_spaced
from tttkd_ros.segmenter.weights import Weights, overwrite

log = logging.getLogger(__name__)

WARNING_INTERVAL_S = 60.0


@dataclass(frozen=True, eq=False)
class RowFeatures:
    """The backbone's features of the points in range, one row for all points of a voxel.

    rows: (R, channels). row: (n,) int64, the row of each point in range. in_range: (N,) bool, on the CPU.
    """

    rows: torch.Tensor
    row: torch.Tensor
    in_range: torch.Tensor


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of one sweep, in the order of its points."""

    labels: np.ndarray  # (N,) uint8; `UNLABELLED` for points that are not finite or out of range
    confidence: np.ndarray  # (N,) float32, softmax probability of the label; 0 for unlabelled points
    version: int  # of the weights that made the prediction
    problem: str = ""  # why almost no point is in range; empty if that is not so
    features: RowFeatures | None = None  # None if no point is in range, or the logits are a mean over rotations


class Segmenter:
    """Predicts with a private copy of a student. One thread uses it at a time.

    rotations: number of evenly spaced ones about the vertical, over which logits are averaged (TTT-KD: 8 indoors, 4
    outdoors). The cost grows with it.
    """

    def __init__(self, student: Student, rotations: int = 1):
        self._student = copy.deepcopy(student).requires_grad_(False).eval()
        self._stream = CudaStream(student.teacher_mean.device, urgent=True)
        self._version = 0
        self._warned: dict[str, float] = {}  # kind of warning -> when it was last logged
        self._rotations = evenly_spaced(rotations)

    @torch.inference_mode()
    def segment(self, points: np.ndarray, features: Mapping[str, np.ndarray] | None = None,
                images: ImageFeatures | None = None) -> Prediction:
        """Label points (N, 3), metres, LiDAR frame, z up.

        features: (N,) or (N, C) each, by name. images: for a student with injection; None if no camera sees a point.
        Raises ValueError for another shape, or if the student takes a feature that is missing.
        """
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points have shape {points.shape}, expected (N, 3)")
        labels = np.full(len(points), UNLABELLED, np.uint8)
        confidence = np.zeros(len(points), np.float32)
        cloud = self._student.points(points, features, images)
        in_range = self._student.in_range(cloud.xyz, self._rotations)
        kept = None
        if in_range.any():
            cloud = cloud if in_range.all() else cloud[in_range]
            with self._stream():
                logits, row, rows = self._mean_logits(cloud.to(self._student.teacher_mean.device))
                kept = None if rows is None else RowFeatures(rows, row, in_range)
                best = logits.max(1)
                # The softmax of the best class alone. torch's softmax over such short rows takes five times as long.
                probability = (logits - best.values[:, None]).exp_().sum(1).reciprocal_()
                labels[in_range.numpy()] = best.indices.byte()[row].cpu().numpy()
                confidence[in_range.numpy()] = probability[row].cpu().numpy()
                if len(best.values) >= MAX_VOXELS:
                    self._warn(f"the cloud occupies more than {MAX_VOXELS} voxels: only the nearest {len(cloud)} of "
                               f"{len(points)} points are labelled; send single sweeps instead of a map, or crop them")
        problem = explain_range(points, self._student.max_range)
        if problem:
            self._warn(f"almost no point is labelled: {problem}")
        return Prediction(labels, confidence, self._version, problem, kept)

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Predict with these weights from the next call on. Raises ValueError if they fit another backbone."""
        with self._stream():
            overwrite(self._student.backbone, weights)
        self._version = weights.version

    def _mean_logits(self, points: Points) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return (R, classes) logits, (N,) int64, the row of each point, and (R, channels) features. With rotations,
        each point is a row and there are no features, because each rotation has other rows."""
        logits, row, features = self._logits(points)
        if self._rotations:
            logits, row, features = logits[row], torch.arange(len(row), device=row.device), None
            for matrix in self._rotations:
                rotated, other, _ = self._logits(points.transformed(matrix))
                logits += rotated[other]
            logits /= 1 + len(self._rotations)
        return logits, row, features

    def _logits(self, points: Points) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (R, classes) logits of the backbone's rows, (N,) int64, the row of each point, and the rows."""
        prepared = self._student.prepare(points)
        features = self._student.row_features(prepared)
        return self._student.logits(features), prepared.row, features

    def _warn(self, text: str) -> None:
        """Log a warning, but repeat one of the same kind only after `WARNING_INTERVAL_S`."""
        kind, now = kind_of(text), time.monotonic()
        if now - self._warned.get(kind, -math.inf) >= WARNING_INTERVAL_S:
            self._warned[kind] = now
            log.warning("%s", text)
