"""The worker: takes steps in a thread beside inference or, for replay, in the caller's own."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tttkd_ros.adaptation.adapter import Adapter, AdapterDied, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.restarts import RestartBudget
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.threads import join

log = logging.getLogger(__name__)

STARTING, RUNNING, STOPPED = "starting", "running", "stopped"
READY, OVER = "ready to adapt", "adaptation has stopped"  # log messages


@dataclass(frozen=True)
class Job:
    """One sweep to train on: its stamp in nanoseconds, the call that builds its frame, and the settings of the step.

    The frame is built when the job's turn comes, so that images of replaced jobs are never decoded. `due` is the number
    of the sweep whose step was due. A job of a later sweep is a retry: the images of the due one were missing. A retry
    is dropped without being counted if a due job or a newer retry is queued, or its frame has no image either.
    """

    stamp: int
    build_frame: Callable[[], Frame]
    config: TTTConfig
    sweep: int = 0
    due: int = 0

    @property
    def is_retry(self) -> bool:
        return self.sweep > self.due


@dataclass(frozen=True)
class Counters:
    """What became of the jobs; accepted, rejected and skipped as in `StepReport.outcome`."""

    submitted: int = 0
    replaced: int = 0  # by a newer job, a pause, a reset or a failure before their turn
    accepted: int = 0
    rejected: int = 0
    skipped: int = 0
    failed: int = 0  # of the rejected: those that raised an exception
    restarts: int = 0  # new adapters in place of ones that died


@dataclass(frozen=True)
class WorkerStatus:
    """A snapshot of the worker."""

    state: str = STARTING  # until the first step can be taken; then RUNNING or STOPPED
    failure: str = ""  # why there is no adapter
    paused: bool = False
    failures: int = 0  # steps in a row that raised an exception
    last: StepReport | None = None  # since the weights were last reset or loaded
    counters: Counters = field(default_factory=Counters)

    @property
    def distrusted(self) -> bool:
        """Whether the guard rejected the last images that it checked."""
        return self.last is not None and self.last.distrusted


class AdaptationWorker:
    """Takes one step at a time, always for the newest job, and publishes the weights that a step changes.

    An exception in a job is logged, reported as a rejected step and survived. If an adapter dies in the background, a
    new one continues from the published weights, as often as `restarts` allows. After that adaptation stops until the
    next restart is earned or `revive` is called. An adapter that cannot be built waits for `revive`.

    Any thread may call any method. Only `close` and, without a background thread, `submit` wait for a step.

    Args:
        build: makes the adapter, in the thread that will use it.
        shipped: the weights that the adapter begins with.
        on_report: called after every step, from the thread that took it.
        background: start a thread. Otherwise the adapter is built now, and `submit` takes the step.
        cancel: called by `close` to abort a build or a step, which then raises `AdapterDied`.
        restarts: the restarts allowed in a row.
    """

    def __init__(
        self,
        build: Callable[[], Adapter],
        shipped: Weights,
        on_report: Callable[[StepReport], None] | None = None,
        *,
        background: bool = True,
        cancel: Callable[[], object] = lambda: None,
        restarts: RestartBudget | None = None,
    ):
        self.status = WorkerStatus()
        self.published = shipped  # the newest weights; the same object until there are newer ones
        self.last_sweep_with_image = -math.inf  # number of the last sweep that had one, or whose frame failed
        self.begun = self.ended = 0  # steps since the start, each from the building of its frame to its weights
        self._shipped = shipped
        self._build = build
        self._on_report = on_report
        self._cancel = cancel
        self._restarts = restarts or RestartBudget()
        self._retry_after_s: float | None = None  # a stopped worker restarts after this time; None: by `revive` only
        self._lock = threading.Condition()
        self._job: Job | None = None
        self._closed = self._thread_ended = False
        self._pending_weights: Weights | None = None  # the adapter loads them before its next step
        self._adapter: Adapter | None = None
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._run, name="adaptation", daemon=True)
            self._thread.start()
        else:
            self._adapter = build()
            self._update(state=RUNNING)

    def submit(self, job: Job) -> None:
        """Queue a job in place of the one that waits."""
        with self._lock:
            if self.status.paused or self._closed or self.status.state == STOPPED:
                return
            if job.is_retry and self._job and not self._job.is_retry:
                return
            if not job.is_retry:
                self._count(submitted=1)
            self._drop_job()
            self._job = job
            self._lock.notify()
        if self._thread is None:
            self._take_step()

    def pause(self, paused: bool = True) -> None:
        """Take no further step until `pause(False)`. A running step is finished."""
        with self._lock:
            self._update(paused=paused)
            self._drop_job()

    def revive(self) -> bool:
        """Build a new adapter if adaptation has stopped, and allow all restarts again. Return whether it had stopped.

        Raises ValueError if the thread has ended, with its reason.
        """
        with self._lock:
            if self.status.state != STOPPED:
                return False
            if self._thread_ended:
                raise ValueError(f"{OVER} until the next start: {self.status.failure}")
            self._restarts.refill()
            self._restart()
            self._lock.notify()
        return True

    def load_weights(self, weights: Weights | None = None) -> Weights:
        """Publish weights at once, the shipped ones if None, and continue from them. A running step is discarded.

        Returns the weights as published: with a later version than before, unless they are the shipped ones.
        """
        with self._lock:
            if weights is None:
                weights = self._shipped
            else:
                weights = replace(weights, version=max(weights.version, self.published.version + 1))
            self._pending_weights = self.published = weights
            self._update(last=None)
            self._drop_job()
        return weights

    def close(self) -> None:
        """Cancel the running step, or wait for it if it cannot be cancelled. End the thread and the adapter."""
        with self._lock:
            self._closed = True
            self._drop_job()
            self._lock.notify()
        self._cancel()
        if self._thread is None:
            self._close_adapter()
        elif self._thread is not threading.current_thread():
            join(self._thread)

    def _run(self) -> None:
        try:
            while not self._closed:
                if self.status.state == STOPPED:
                    self._wait_for_restart()
                elif self._adapter is None:
                    self._start()
                else:
                    with self._lock:
                        self._lock.wait_for(lambda: self._job or self._closed)
                    self._take_step()
        except BaseException as error:  # a thread must not end silently
            log.exception("the adaptation thread ended")
            self._thread_ended = True
            self._stop(f"the thread ended: {type(error).__name__}: {error}")
        finally:
            self._close_adapter()

    def _start(self) -> None:
        try:
            self._adapter = self._build()
        except AdapterDied as error:
            self._replace_adapter(error)
        except Exception as error:  # a file, a library or a device is wrong: a second try would fail as well
            log.exception("adaptation cannot start")
            self._stop(f"{type(error).__name__}: {error}")
        else:
            with self._lock:
                self._update(state=RUNNING, failure="")
            log.info(READY)

    def _take_step(self) -> None:
        with self._lock:
            job, self._job = self._job, None
            if job is None:  # dropped meanwhile
                return
            pending, self._pending_weights = self._pending_weights, None
        weights, failures, death = None, 0, None
        self.begun += 1
        try:
            frame = self._build_frame(job)
            if frame is None:
                self._put_back(pending)
                return
            if pending is not None:
                self._adapter.load_weights(pending)
            report = self._adapter.step(frame, job.config)
            if report.version != self.published.version:
                weights = self._adapter.weights()
        except AdapterDied as error:
            death, report, failures = error, self._failed(job, str(error)), self.status.failures
        except Exception as error:  # no driver, decoder or kernel may end adaptation
            log.exception("the step for the sweep at %d ns failed", job.stamp)
            report, failures = self._failed(job, f"{type(error).__name__}: {error}"), self.status.failures + 1
            self._put_back(pending)  # it may not have been loaded
        finally:
            self.ended += 1
        if self._closed and death:  # cancelled
            return
        report = self._publish(job, report, weights, failures, failed=bool(death or failures))
        if self._on_report is not None:
            try:
                self._on_report(report)
            except Exception:  # the listener's failure does not concern adaptation
                log.exception("on_report failed for the sweep at %d ns", report.stamp)
        if death is not None:
            self._replace_adapter(death)

    def _build_frame(self, job: Job) -> Frame | None:
        """Return the frame of a job; None for a retry that is no longer needed or has no image."""
        if job.is_retry and self.last_sweep_with_image >= job.due:
            return None
        before, self.last_sweep_with_image = self.last_sweep_with_image, job.sweep  # a failure counts as an image
        frame = job.build_frame()
        if not frame.views:
            self.last_sweep_with_image = before
            return None if job.is_retry else frame
        return frame

    def _publish(
        self, job: Job, report: StepReport, weights: Weights | None, failures: int, *, failed: bool
    ) -> StepReport:
        """Publish the weights of a step, if there are any, and return its report, changed if it was overtaken."""
        with self._lock:
            overtaken = self._pending_weights is not None
            if overtaken and (weights or report.accepted):
                report = replace(
                    report, version=self.published.version, accepted=False, reason="reset or loaded during the step"
                )
            elif weights:
                self.published = weights
            # The report of an overtaken step says nothing of the published weights.
            self._update(last=None if overtaken else report, failures=failures)
            self._count(submitted=int(job.is_retry), failed=int(failed), **{report.outcome: 1})
        return report

    def _failed(self, job: Job, reason: str) -> StepReport:
        return StepReport(
            stamp=job.stamp, version=self.published.version, accepted=False, reason=reason,
            learning_rate=job.config.learning_rate, stride=job.config.stride,
            distrusted=self.status.distrusted,  # nothing new is known of the images
        )

    def _put_back(self, weights: Weights | None) -> None:
        """Load these weights before the next step, unless newer ones are pending."""
        with self._lock:
            self._pending_weights = self._pending_weights or weights

    def _replace_adapter(self, death: AdapterDied) -> None:
        self._adapter = None
        if self._closed:
            return
        if self._restarts.take():
            log.error("%s; starting another", death)
            with self._lock:
                self._update(failure=str(death))
                self._restart()
            return
        wait_s = self._restarts.wait_s
        wait = f"{wait_s:.0f} s" if wait_s < 90 else f"{wait_s / 60:.0f} min"
        self._stop(f"{death}, after {self._restarts.maximum} restarts in a row; tries again in {wait}, or when it is "
                   "resumed or reset", wait_s)

    def _restart(self) -> None:
        """Let the thread build a new adapter, which continues from the published weights."""
        self._count(restarts=1)
        self._update(state=STARTING)
        self._pending_weights = self.published

    def _stop(self, reason: str, retry_after_s: float | None = None) -> None:
        log.error("%s, sweeps are segmented with the weights as they are: %s", OVER, reason)
        with self._lock:
            self._retry_after_s = retry_after_s
            self._update(state=STOPPED, failure=reason)
            self._drop_job()

    def _wait_for_restart(self) -> None:
        with self._lock:
            called = self._lock.wait_for(lambda: self._closed or self.status.state != STOPPED, self._retry_after_s)
            if not called:
                self._restarts.spend()
                self._restart()

    def _close_adapter(self) -> None:
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def _drop_job(self) -> None:
        if self._job is not None:
            self._count(replaced=int(not self._job.is_retry))
            self._job = None

    def _update(self, **changes) -> None:
        self.status = replace(self.status, **changes)

    def _count(self, **more: int) -> None:
        counters = self.status.counters
        self._update(counters=replace(counters, **{name: getattr(counters, name) + n for name, n in more.items()}))
