"""Sweep in, labels out, and on every stride-th sweep a job for adaptation. The node and replay share this; no ROS."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from tttkd_ros.adaptation.adapter import OTHER_BACKBONE, Adapter, StepReport, Weights, kind_of, overwrite
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import Share
from tttkd_ros.adaptation.worker import FAILED, RUNNING, STARTING, AdaptationWorker, Counters
from tttkd_ros.classes import UNLABELLED
from tttkd_ros.devices import CudaStream
from tttkd_ros.diagnosis import explain_range
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import MAX_VOXELS, Student

log = logging.getLogger(__name__)

WARN_EVERY_S = 60.0  # of what is wrong with the clouds
STARVED = 8  # times the configured stride from which adaptation hardly gets a step
STARVING, GUARD_PAUSE = "starved", "paused by the guard"  # how `Pipeline.adaptation` begins then
DISABLED = "off: ttt.enabled is false"
MANY_FAILURES = 3  # steps in a row that failed: it is not by chance


@dataclass(frozen=True, eq=False)
class Prediction:
    """labels: (N,) uint8. confidence: (N,) float32, probability of the label. version: of the weights that spoke.
    problem: why almost no point is in range; empty if that is not so.

    Points that cannot be segmented (not finite, or out of reach) keep their place with `UNLABELLED` and confidence 0.
    """

    labels: np.ndarray
    confidence: np.ndarray
    version: int
    problem: str = ""


class Segmenter:
    """The inference replica: a private copy of a student, used by one thread at a time.

    rotations: of a cloud about the vertical, evenly spaced, over which the logits are accumulated (the paper: 8 indoor,
    4 outdoor); as many times the work of one.
    """

    def __init__(self, student: Student, rotations: int = 1):
        self._student = copy.deepcopy(student).requires_grad_(False).eval()
        self._stream = CudaStream(student.teacher_mean.device, urgent=True)
        self._version = 0
        self._warned: dict[str, float] = {}  # kind of problem -> when it was logged
        self._turns = [_about_vertical(2 * math.pi * number / rotations) for number in range(1, rotations)]

    @torch.inference_mode()
    def segment(self, points: np.ndarray) -> Prediction:
        """Label points (N, 3), metres, LiDAR frame."""
        points = np.asarray(points, np.float32)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points have shape {points.shape}, expected (N, 3)")
        labels = np.full(len(points), UNLABELLED, np.uint8)
        confidence = np.zeros(len(points), np.float32)
        cloud = torch.tensor(points)  # a copy: a message's array is read-only
        usable = self._student.in_range(cloud)
        for turn in self._turns:
            usable &= self._student.in_grid(cloud @ turn)
        if usable.any():
            cloud = cloud if usable.all() else cloud[usable]
            with self._stream():
                logits, row = self._logits(cloud)
                if self._turns:  # the rotations have voxels of their own: only their points are the same
                    logits, row = logits[row], torch.arange(len(row), device=row.device)
                    for turn in self._turns:
                        others, other_row = self._logits(cloud @ turn)
                        logits += others[other_row]
                    logits /= 1 + len(self._turns)
                best = logits.max(1)
                # The winner's softmax alone: over rows this short torch's takes five times as long.
                probability = (logits - best.values[:, None]).exp_().sum(1).reciprocal_()
                labels[usable.numpy()] = best.indices.byte()[row].cpu().numpy()
                confidence[usable.numpy()] = probability[row].cpu().numpy()
                if len(best.values) >= MAX_VOXELS:
                    self._warn(f"the cloud occupies more than {MAX_VOXELS} voxels: only the nearest {len(cloud)} of "
                               f"{len(points)} points are labelled; send single sweeps instead of a map, or crop them")
        return Prediction(labels, confidence, self._version, self._problem(points))

    def _problem(self, points: np.ndarray) -> str:
        """Why almost no point is in range; logged now and then."""
        problem = explain_range(points, self._student.max_range)
        if problem:
            self._warn(f"hardly a label: {problem}")
        return problem

    def _warn(self, text: str) -> None:
        """The same text again, but for its numbers, only after a while."""
        kind, now = kind_of(text), time.monotonic()
        if now - self._warned.get(kind, -math.inf) >= WARN_EVERY_S:
            self._warned[kind] = now
            log.warning("%s", text)

    def _logits(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(V, classes) of the voxels of points (N, 3), and (N,) int64, each point's voxel."""
        voxels = self._student.voxels(points.to(self._student.teacher_mean.device))
        return self._student.logits(self._student.voxel_features(voxels)), voxels.inverse

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        """Take over weights, all of them, before the next `segment`."""
        with self._stream():
            overwrite(self._student.backbone, weights)
        self._version = weights.version


def _about_vertical(angle: float) -> torch.Tensor:
    """(3, 3), for points as rows."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return torch.tensor([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


class Pipeline:
    """Segments every sweep at once with the newest weights; adapts beside (background) or after it (replay).

    build: makes what adapts a copy of this student, in the thread that will use it; None for a pipeline that only
    segments. on_report: told of every step, from the thread that took it. cancel: what `close` cuts a build or a step
    short with. rotations: see `Segmenter`.
    """

    def __init__(
        self,
        student: Student,
        build: Callable[[], Adapter] | None,
        config: TTTConfig,
        *,
        background: bool,
        on_report: Callable[[StepReport], None] | None = None,
        cancel: Callable[[], object] = lambda: None,
        rotations: int = 1,
    ):
        self._segmenter = Segmenter(student, rotations)
        self._config = config
        self._share = Share()
        self._worker: AdaptationWorker | None = None
        self._shipped = self._fixed = self._loaded = Weights.copied(0, student.backbone)
        self._number = 0  # of sweeps
        self._tried = self._looked = -math.inf  # number of the last sweep whose step was due, and that had an image
        if build is not None:
            self._worker = AdaptationWorker(
                build, self._shipped, config, on_report, background=background, cancel=cancel
            )

    def process(self, stamp: int, points: np.ndarray, make_frame: Callable[[], Frame] | None) -> Prediction:
        """Segment one sweep, and hand `make_frame` to adaptation if a step is due.

        The sweep is predicted before it is learnt from. make_frame: None where there is no camera. Where its frame has
        no image, the step is also tried on the sweeps that follow, to the first that has one; the next is due a stride
        later.
        """
        if (newest := self.weights) is not self._loaded:
            self._segmenter.load(newest)
            self._loaded = newest
        prediction = self._segmenter.segment(points)
        self._number += 1
        if make_frame and self._takes_steps():
            self._hand_in(stamp, make_frame, self._number)
        return prediction

    def _hand_in(self, stamp: int, make_frame: Callable[[], Frame], number: int) -> None:
        in_force = self.in_force
        due = number - max(self._tried, self._looked) >= in_force.stride
        if due:
            self._tried = number
        elif self._looked >= self._tried:
            return

        def look() -> Frame | None:
            """In the thread that takes steps."""
            before = self._looked
            if not due and before >= self._tried:
                return None
            self._looked = number  # an exception costs the turn
            frame = make_frame()
            if not frame.views:
                self._looked = before
            return frame if due or frame.views else None

        self._worker.config = in_force
        self._worker.submit(stamp, look, spare=not due)

    def shed(self, share: Share) -> None:
        """Leave adaptation this share of the machine from the next sweep on."""
        self._share = share

    @property
    def in_force(self) -> TTTConfig:
        """The configuration, less what was shed."""
        return self._share.of(self._config)

    def _takes_steps(self) -> bool:
        """A pipeline whose adapter is not there yet does: the newest sweep waits for it."""
        return self._worker is not None and self._config.enabled and not self.paused and self._worker.state != FAILED

    @property
    def config(self) -> TTTConfig:
        """Settings of adaptation; assign a new one at any time, from any thread."""
        return self._config

    @config.setter
    def config(self, config: TTTConfig) -> None:
        self._config = config

    @property
    def paused(self) -> bool:
        return self._worker is not None and self._worker.paused

    @property
    def counters(self) -> Counters:
        return self._worker.counters if self._worker else Counters()

    @property
    def weights(self) -> Weights:
        """The newest accepted ones, whole; the same object until there are newer ones."""
        return self._worker.published if self._worker else self._fixed

    @property
    def adaptation(self) -> str:
        """"running", or in words why not."""
        if self._worker is None:
            return "off: needs a camera and a teacher"
        if self._worker.state != RUNNING:
            return ": ".join(filter(None, (self._worker.state, self._worker.failure)))
        if self._worker.paused:
            return "paused"
        if self.failing:
            return f"failing: the last {self._worker.failing} steps failed: {self._worker.last.reason}"
        if (last := self._worker.last) and last.paused:
            return f"{GUARD_PAUSE}: {last.reason}"
        if self._config.enabled and self._share.stretch >= STARVED:
            return (f"{STARVING}: predictions take nearly all of the deadline, a step is due on every "
                    f"{self.in_force.stride} sweeps instead of {self._config.stride}: thin the clouds, raise the "
                    "deadline, or use a faster device")
        if self._config.enabled and last and last.skipped:
            return f"resting: {last.reason}"
        return "running" if self._config.enabled else DISABLED

    @property
    def restarting(self) -> bool:
        """Whether an adapter died, for a reason that `adaptation` gives, and the next is on its way."""
        return self._worker is not None and self._worker.state == STARTING and bool(self._worker.failure)

    @property
    def failing(self) -> bool:
        """Whether the last steps have all raised an exception, of which `adaptation` gives the last."""
        return bool(self._worker and self._worker.last) and self._worker.failing >= MANY_FAILURES

    @property
    def failed(self) -> bool:
        """Whether adaptation has stopped, for a reason that `adaptation` gives."""
        return self._worker is not None and self._worker.state == FAILED

    def pause(self) -> None:
        """Keep segmenting with the weights as they are."""
        if self._worker:
            self._worker.pause()

    def resume(self) -> str:
        """Adapt again after `pause`, or after adaptation has stopped. Returns what happens now.

        Raises ValueError with the reason if there will be no step.
        """
        if self._worker:
            self._worker.resume()
        revived = self.revive()
        if self._worker is None:
            raise ValueError(f"adaptation is {self.adaptation}")
        if not self._config.enabled:
            raise ValueError(f"adaptation is {DISABLED}: set it to true")
        return revived or f"adaptation is {self.adaptation}"

    def revive(self) -> str:
        """Start adaptation again if it has stopped. Returns what was done, "" if nothing.

        Raises ValueError with the reason if it cannot be started.
        """
        reason = self._worker and self._worker.failure
        revived = self._worker is not None and self._worker.revive()
        return f"adaptation starts again; it had stopped: {reason}" if revived else ""

    def reset(self) -> None:
        """Segment with the shipped weights from the next sweep on."""
        if self._worker:
            self._worker.reset()
        else:
            self._fixed = self._shipped

    def load_weights(self, weights: Weights) -> Weights:
        """Segment with these weights from the next sweep on, and adapt on from them.

        Returned with the version that they get, later than that of the ones before. Raises ValueError where they are
        another backbone's.
        """
        if not weights.fit(self._loaded.tensors):
            raise ValueError(OTHER_BACKBONE)
        if self._worker:
            return self._worker.load_weights(weights)
        self._fixed = replace(weights, version=max(weights.version, self._fixed.version + 1))
        return self._fixed

    def close(self) -> None:
        """End the worker's thread."""
        if self._worker:
            self._worker.close()
