"""Segments every sweep and adapts on every stride-th one. The node and the replay share it; it knows no ROS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from tttkd_ros.adaptation.adapter import Adapter, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import Throttle
from tttkd_ros.adaptation.worker import RUNNING, STARTING, STOPPED, AdaptationWorker, Counters, Job, WorkerStatus
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.segmenter import Prediction, Segmenter
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.weights import OTHER_BACKBONE, Weights

STARVED_FACTOR = 8  # stride factor from which adaptation hardly gets a step
MIN_FAILURES = 3  # steps in a row that failed, from which they are not taken for chance
STARVING, GUARD_PAUSE = "starved", "paused by the guard"  # first words of `AdaptationStatus.text`
FASTER = "thin the clouds, raise the deadline, or use a faster device"
DISABLED = "off: ttt.enabled is false"
NOT_AVAILABLE = "off: needs a camera and a teacher"
NO_HEAD = "off: the student has no head for a teacher, see `tttkd train adapter-head`"


@dataclass(frozen=True)
class AdaptationStatus:
    """A snapshot of adaptation."""

    text: str = "not configured"  # "running", or why no step is taken
    stride: int = 0  # in effect, throttled
    stopped: bool = False  # until adaptation is resumed, reset, or earns a restart
    restarting: bool = False  # an adapter died and the next one is being built
    failing: bool = False  # the last steps all raised an exception
    counters: Counters = field(default_factory=Counters)


class Pipeline:
    """Predicts with the newest weights. Adapts in the background (node) or in `adapt` itself (replay).

    Args:
        student: copied, not changed.
        build: makes the adapter of this student, in the thread that will use it; None to segment only.
        config: the settings; assign others to `config` at any time, from any thread.
        background: adapt in a thread of its own.
        on_report: called after every step, from the thread that took it.
        cancel: called by `close` to abort a build or a step.
        rotations: see `Segmenter`.

    Attributes:
        config: settings of the steps.
        throttle: what the deadline leaves to adaptation, from the next sweep on.
        beside_step: whether a step ran during the last prediction.
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
        self.config, self.throttle, self.beside_step = config, Throttle(), False
        self._off = NOT_AVAILABLE if student.config.teacher_dim else NO_HEAD  # without an adapter
        self._segmenter = Segmenter(student, rotations)
        self._worker: AdaptationWorker | None = None
        self._shipped = self._fixed = self._loaded = Weights.copied(0, student.backbone)
        self._sweep = 0  # number of the last one
        self._due = -math.inf  # number of the last sweep whose step was due
        if build is not None:
            self._worker = AdaptationWorker(build, self._shipped, on_report, background=background, cancel=cancel)

    def segment(self, points: np.ndarray, features: Mapping[str, np.ndarray] | None = None,
                images: ImageFeatures | None = None) -> Prediction:
        """Label points (N, 3), metres, LiDAR frame, z up, with the newest weights. See `Segmenter.segment`."""
        if (newest := self.weights) is not self._loaded:
            self._segmenter.load(newest)
            self._loaded = newest
        ended = self._worker.ended if self._worker else 0
        prediction = self._segmenter.segment(points, features, images)
        self.beside_step = self._worker is not None and self._worker.begun > ended
        return prediction

    def adapt(self, stamp: int, build_frame: Callable[[], Frame] | None) -> None:
        """Submit the sweep that was just segmented for training, if a step is due.

        A step whose frame has no image is retried on the following sweeps, up to the first one with an image. The next
        step is due one stride after that.

        Args:
            stamp: of the sweep, nanoseconds.
            build_frame: makes its frame, in the thread that trains; None if there is no camera.
        """
        self._sweep += 1
        if build_frame is None or self._worker is None or not self.config.enabled:
            return
        if self._worker.status.paused or self._worker.status.state == STOPPED:
            return
        config = self.throttle.apply(self.config)
        with_image = self._worker.last_sweep_with_image
        if self._sweep - max(self._due, with_image) >= config.stride:
            self._due = self._sweep
        elif with_image >= self._due:
            return
        self._worker.submit(Job(stamp, build_frame, config, self._sweep, self._due))

    @property
    def weights(self) -> Weights:
        """The newest weights; the same object until there are newer ones."""
        return self._worker.published if self._worker else self._fixed

    @property
    def distrusts_images(self) -> bool:
        """Whether the guard rejected the last images that it checked. A student with injection should do without then.

        While no step reaches the guard, nobody checks the images, and they are not distrusted.
        """
        if self._worker is None or not self.config.enabled or not self.config.guard:
            return False
        status = self._worker.status
        return status.distrusted and status.state == RUNNING and not status.paused and not _is_failing(status)

    def load_weights(self, weights: Weights) -> Weights:
        """Segment with these weights from the next sweep on, and continue adapting from them.

        Returns them with their new version, which is later than the one before. Raises ValueError if they belong to
        another backbone.
        """
        if not weights.fit(self._loaded.tensors):
            raise ValueError(OTHER_BACKBONE)
        if self._worker:
            return self._worker.load_weights(weights)
        self._fixed = replace(weights, version=max(weights.version, self._fixed.version + 1))
        return self._fixed

    def reset(self) -> str:
        """Segment with the shipped weights from the next sweep on, and start adaptation again if it has stopped.

        Returns what was done besides the reset. Raises ValueError if adaptation cannot be started again; the weights
        are reset all the same.
        """
        if self._worker is None:
            self._fixed = self._shipped
            return ""
        self._worker.load_weights()
        return self._revive()

    def pause(self) -> None:
        """Keep segmenting with the current weights and take no step."""
        if self._worker:
            self._worker.pause()

    def resume(self) -> str:
        """Adapt again after `pause`, or after adaptation has stopped. Return what happens now.

        Raises ValueError, with the reason, if there will be no step.
        """
        if self._worker is None:
            raise ValueError(f"adaptation is {self._off}")
        self._worker.pause(False)
        revived = self._revive()
        if not self.config.enabled:
            raise ValueError(f"adaptation is {DISABLED}: set it to true")
        return revived or f"adaptation is {self.status.text}"

    def close(self) -> None:
        """End the worker's thread."""
        if self._worker:
            self._worker.close()

    @property
    def status(self) -> AdaptationStatus:
        """What adaptation does, and why it does not, if it does not."""
        stride = self.throttle.apply(self.config).stride
        if self._worker is None:
            return AdaptationStatus(self._off, stride)
        worker = self._worker.status
        return AdaptationStatus(
            self._text(worker, stride),
            stride,
            stopped=worker.state == STOPPED,
            restarting=worker.state == STARTING and bool(worker.failure),
            failing=_is_failing(worker),
            counters=worker.counters,
        )

    def _text(self, worker: WorkerStatus, stride: int) -> str:
        last = worker.last
        if worker.state != RUNNING:
            return ": ".join(filter(None, (worker.state, worker.failure)))
        if worker.paused:
            return "paused"
        if _is_failing(worker):
            return f"failing: the last {worker.failures} steps failed: {last.reason}"
        if last and last.paused:
            return f"{GUARD_PAUSE}: {last.reason}"
        if not self.config.enabled:
            return DISABLED
        if self.throttle.stride_factor >= STARVED_FACTOR:
            return (f"{STARVING}: predictions beside a step take nearly all of the deadline, a step is due on every "
                    f"{stride} sweeps instead of {self.config.stride}: {FASTER}")
        return f"waiting: {last.reason}" if last and last.skipped else "running"

    def _revive(self) -> str:
        failure = self._worker.status.failure
        return f"adaptation starts again; it had stopped: {failure}" if self._worker.revive() else ""


def _is_failing(worker: WorkerStatus) -> bool:
    return worker.last is not None and worker.failures >= MIN_FAILURES
