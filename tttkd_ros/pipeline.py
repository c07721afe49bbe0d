"""Sweep in, labels out, and on every stride-th sweep a job for adaptation. The node and replay share this; no ROS."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.targets import Teacher
from tttkd_ros.adaptation.ttt_kd import TTTKD, StepReport, Weights
from tttkd_ros.adaptation.worker import AdaptationWorker, Counters
from tttkd_ros.classes import UNLABELLED
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student


@dataclass(frozen=True, eq=False)
class Prediction:
    """labels: (N,) uint8. confidence: (N,) float32, probability of the label. version: of the weights that spoke.

    Points that cannot be segmented (not finite, or out of reach) keep their place with `UNLABELLED` and confidence 0.
    """

    labels: np.ndarray
    confidence: np.ndarray
    version: int


class Segmenter:
    """The inference replica: a private copy of a student, used by one thread at a time."""

    def __init__(self, student: Student):
        self._student = copy.deepcopy(student).requires_grad_(False).eval()
        self._adaptable = dict(self._student.backbone.named_parameters())
        self._version = 0

    @torch.inference_mode()
    def segment(self, points: np.ndarray) -> Prediction:
        """Label points (N, 3), metres, LiDAR frame."""
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points have shape {points.shape}, expected (N, 3)")
        labels = np.full(len(points), UNLABELLED, np.uint8)
        confidence = np.zeros(len(points), np.float32)
        cloud = torch.tensor(points)  # a copy: a message's array is read-only
        usable = self._student.usable(cloud)
        if usable.any():
            device = self._student.teacher_mean.device
            probability = self._student.logits(self._student(cloud[usable].to(device))).softmax(1)
            best = probability.max(1)
            labels[usable.numpy()] = best.indices.cpu().numpy()
            confidence[usable.numpy()] = best.values.cpu().numpy()
        return Prediction(labels, confidence, self._version)

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Take over weights, all of them, before the next `segment`."""
        if weights.tensors.keys() != self._adaptable.keys():
            raise ValueError("these weights belong to another backbone; hand over those of a copy of this student")
        for name, tensor in weights.tensors.items():
            self._adaptable[name].copy_(tensor)
        self._version = weights.version


class Pipeline:
    """Segments every sweep at once with the newest weights; adapts beside (background) or after it (replay).

    teacher: None for a pipeline that only segments. on_report: told of every step, from the thread that took it.
    """

    def __init__(
        self,
        student: Student,
        teacher: Teacher | None,
        config: TTTConfig,
        *,
        background: bool,
        on_report: Callable[[StepReport], None] | None = None,
        seed: int = 0,
    ):
        self._segmenter = Segmenter(student)
        self._config = config
        self._worker: AdaptationWorker | None = None
        self._adopted: Weights | None = None
        self._sweeps = math.inf  # since the last step: the first sweep is due
        if teacher is not None:
            adapter = TTTKD(student, teacher, seed)
            self._worker = AdaptationWorker(adapter, config, on_report, background=background)
            self._adopted = self._worker.published

    def process(self, stamp: int, points: np.ndarray, make_frame: Callable[[], Frame] | None) -> Prediction:
        """Segment one sweep, and hand `make_frame` to adaptation if a step is due.

        The sweep is predicted before it is learnt from. make_frame: None if the sweep has no usable image; a step that
        is due then falls to the next sweep that has.
        """
        if self._worker and self._worker.published is not self._adopted:
            self._adopted = self._worker.published
            self._segmenter.load(self._adopted)
        prediction = self._segmenter.segment(points)
        self._sweeps += 1
        if self._worker and make_frame and self._config.enabled and not self.paused and self._due():
            self._sweeps = 0
            self._worker.submit(stamp, make_frame)
        return prediction

    def _due(self) -> bool:
        return self._sweeps >= self._config.stride

    @property
    def config(self) -> TTTConfig:
        """Settings of adaptation; assign a new one at any time, from any thread."""
        return self._config

    @config.setter
    def config(self, config: TTTConfig) -> None:
        self._config = config
        if self._worker:
            self._worker.config = config

    @property
    def paused(self) -> bool:
        return self._worker is not None and self._worker.paused

    @property
    def counters(self) -> Counters:
        return self._worker.counters if self._worker else Counters()

    def pause(self) -> None:
        """Keep segmenting with the weights as they are."""
        if self._worker:
            self._worker.pause()

    def resume(self) -> None:
        if self._worker:
            self._worker.resume()

    def reset(self) -> None:
        """Segment with the shipped weights from the next sweep on."""
        if self._worker:
            self._worker.reset()

    def close(self) -> None:
        """End the worker's thread, after the step that it is in."""
        if self._worker:
            self._worker.close()
