"""Where steps are taken: a thread beside inference, or, for replay, the caller's own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.ttt_kd import TTTKD, StepReport, Weights
from tttkd_ros.frame import Frame

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counters:
    """Jobs handed in, and what became of them. replaced: by a newer one, a pause or a reset before their turn came."""

    submitted: int = 0
    replaced: int = 0
    accepted: int = 0
    rejected: int = 0
    failed: int = 0  # of the rejected: by an exception


class _Job(NamedTuple):
    stamp: int
    make_frame: Callable[[], Frame]


class AdaptationWorker:
    """Takes one step at a time, always for the newest sweep handed in, and publishes the weights of accepted ones.

    background: True starts a thread, and `submit` returns at once; False takes the step within `submit`. Whatever a job
    raises is logged, reported as a rejected step and survived. on_report is called from the thread that took the step.

    All methods may be called from any thread. None but an inline `submit`, and `close`, waits for a step.
    """

    def __init__(
        self,
        adapter: TTTKD,
        config: TTTConfig,
        on_report: Callable[[StepReport], None] | None = None,
        *,
        background: bool = True,
    ):
        self.config = config  # an immutable whole, read once per step: a change applies at the next step boundary
        self._adapter = adapter
        self._on_report = on_report
        self._lock = threading.Condition()
        self._slot: _Job | None = None
        self._paused = self._closed = self._stale = False
        self._counters = Counters()
        self._shipped = self._published = adapter.weights()
        self._thread = threading.Thread(target=self._work, name="adaptation", daemon=True) if background else None
        if self._thread:
            self._thread.start()

    @property
    def published(self) -> Weights:
        """The newest accepted weights, whole; the same object until there are newer ones."""
        return self._published

    @property
    def counters(self) -> Counters:
        return self._counters

    @property
    def paused(self) -> bool:
        return self._paused

    def submit(self, stamp: int, make_frame: Callable[[], Frame]) -> None:
        """Hand in a job. make_frame is called when its turn comes: images of jobs that are overtaken stay undecoded."""
        with self._lock:
            if self._paused or self._closed:
                return
            self._count(submitted=1, replaced=int(self._slot is not None))
            self._slot = _Job(stamp, make_frame)
            self._lock.notify()
        if self._thread is None:
            self._take_step()

    def pause(self) -> None:
        """Take no further step; the weights stay as they are. A step that is running is finished."""
        with self._lock:
            self._paused = True
            self._drop_job()

    def resume(self) -> None:
        with self._lock:
            self._paused = False

    def reset(self) -> None:
        """Publish the shipped weights again, at once: a step that is running will count for nothing."""
        with self._lock:
            self._stale = True
            self._published = self._shipped
            self._drop_job()

    def close(self) -> None:
        """Finish the running step and end the thread."""
        with self._lock:
            self._closed = True
            self._drop_job()
            self._lock.notify()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._slot or self._closed)
                if self._closed:
                    return
            self._take_step()

    def _take_step(self) -> None:
        with self._lock:
            job, self._slot = self._slot, None
            if job is None:  # withdrawn meanwhile
                return
            stale, self._stale = self._stale, False
        report = self._attempt(job, self.config, stale)
        weights = self._adapter.weights() if report.accepted else None
        with self._lock:
            if weights and self._stale:
                report = replace(report, version=self._shipped.version, accepted=False, reason="reset during the step")
            elif weights:
                self._published = weights
            self._count(accepted=int(report.accepted), rejected=int(not report.accepted))
        self._tell(report)

    def _attempt(self, job: _Job, config: TTTConfig, stale: bool) -> StepReport:
        try:
            if stale:
                self._adapter.reset()
            return self._adapter.step(job.make_frame(), config)
        except Exception as error:  # whatever a driver, a decoder or a kernel raises must not end adaptation for good
            _LOG.exception("the step for the sweep at %d ns failed", job.stamp)
            with self._lock:
                self._count(failed=1)
            return StepReport(
                stamp=job.stamp,
                version=self._published.version,
                accepted=False,
                reason=f"{type(error).__name__}: {error}",
                learning_rate=config.learning_rate,
                stride=config.stride,
            )

    def _tell(self, report: StepReport) -> None:
        if self._on_report is None:
            return
        try:
            self._on_report(report)
        except Exception:  # a listener's fault is not adaptation's
            _LOG.exception("on_report failed for the sweep at %d ns", report.stamp)

    def _drop_job(self) -> None:
        if self._slot is not None:
            self._slot = None
            self._count(replaced=1)

    def _count(self, **more: int) -> None:
        self._counters = replace(
            self._counters, **{name: getattr(self._counters, name) + count for name, count in more.items()}
        )
