"""Sweep in, labels out, and on every stride-th sweep a job for adaptation. The node and replay share this; no ROS."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tttkd_ros.adaptation.adapter import Adapter, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import Share
from tttkd_ros.adaptation.worker import FAILED, RUNNING, STARTING, AdaptationWorker, Counters
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.segmenter import Prediction, Segmenter
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.weights import OTHER_BACKBONE, Weights

log = logging.getLogger(__name__)

STARVED = 8  # times the configured stride from which adaptation hardly gets a step
STARVING, GUARD_PAUSE = "starved", "paused by the guard"  # how `Pipeline.adaptation` begins then
DISABLED = "off: ttt.enabled is false"
MANY_FAILURES = 3  # steps in a row that failed: it is not by chance


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
