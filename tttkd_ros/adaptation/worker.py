"""Where steps are taken: a thread beside inference, or, for replay, the caller's own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from tttkd_ros.adaptation.adapter import Adapter, AdapterDied, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.restarts import RestartBudget
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.threads import join

log = logging.getLogger(__name__)

STARTING, RUNNING, FAILED = "starting", "running", "failed"
# Logged when the first step can be taken, and when there will be none until adaptation is revived.
READY, OVER = "ready to adapt", "adaptation has stopped"


@dataclass(frozen=True)
class Counters:
    """Jobs handed in, and what became of them. replaced: by a newer one, a pause, a reset or a failure before their
    turn came. skipped: no step was needed. restarts: new adapters in place of ones that died."""

    submitted: int = 0
    replaced: int = 0
    accepted: int = 0
    rejected: int = 0
    skipped: int = 0
    failed: int = 0  # of the rejected: by an exception
    rolled_back: int = 0  # of the rejected: those that undid or averaged earlier steps
    restarts: int = 0


class _Job(NamedTuple):
    stamp: int
    make_frame: Callable[[], Frame | None]
    spare: bool


class AdaptationWorker:
    """Takes one step at a time, always for the newest sweep handed in, and publishes the weights that steps change.

    build: makes the adapter, in the thread that will use it. shipped: the weights that it begins with. background: True
    starts a thread, and `submit` returns at once; False builds now and takes the step within `submit`. Whatever a job
    raises is logged, reported as a rejected step and survived. In the background, an adapter that dies is built anew
    and goes on from the published weights, as often as `restarts` allows. Then adaptation stops until the next restart
    is earned, or until `revive`. An adapter that cannot be built waits for `revive`. on_report is called from the
    thread that took the step. cancel: called by `close` to cut a build or a step short, which then raises AdapterDied.

    All methods may be called from any thread. None but an inline `submit`, and `close`, waits for a step.
    """

    def __init__(
        self,
        build: Callable[[], Adapter],
        shipped: Weights,
        config: TTTConfig,
        on_report: Callable[[StepReport], None] | None = None,
        *,
        background: bool = True,
        cancel: Callable[[], object] = lambda: None,
        restarts: RestartBudget | None = None,
    ):
        self.config = config  # an immutable whole, read once per step: a change applies at the next step boundary
        self._build = build
        self._on_report = on_report
        self._hang_up = cancel
        self._restarts = restarts or RestartBudget()
        self._wait_s: float | None = None  # until the thread, once it has failed, tries again; None: until revived
        self._failing = 0  # steps in a row
        self._lock = threading.Condition()
        self._slot: _Job | None = None
        self._paused = self._closed = self._ended = False
        self._counters = Counters()
        self._state, self._failure = STARTING, ""
        self._shipped = self._published = shipped
        self._last: StepReport | None = None
        self._owed: Weights | None = None  # what the adapter has to go on from at its next step
        self._adapter: Adapter | None = None
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._work, name="adaptation", daemon=True)
            self._thread.start()
        else:
            self._adapter, self._state = build(), RUNNING

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

    @property
    def state(self) -> str:
        """`STARTING` until the first step can be taken, `RUNNING`, or `FAILED`."""
        return self._state

    @property
    def failure(self) -> str:
        """Why the adapter is not, or is no longer, there; empty while it is."""
        return self._failure

    @property
    def last(self) -> StepReport | None:
        """Of the steps since the weights were last reset or loaded."""
        return self._last

    @property
    def failing(self) -> int:
        """How many steps have raised an exception since one did not."""
        return self._failing

    def submit(self, stamp: int, make_frame: Callable[[], Frame | None], *, spare: bool = False) -> None:
        """Hand in a job. make_frame is called when its turn comes: images of jobs that are overtaken stay undecoded.

        spare: it gives way to a job that waits, and is none, nor counted as one, where make_frame returns None.
        """
        with self._lock:
            if self._paused or self._closed or self._state == FAILED or (spare and self._slot):
                return
            if not spare:
                self._count(submitted=1)
            self._drop_job()
            self._slot = _Job(stamp, make_frame, spare)
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

    def revive(self) -> bool:
        """Build another adapter if adaptation has stopped, with all restarts ahead of it. Returns whether it had.

        Raises ValueError with the reason if there is no thread any more to do so.
        """
        with self._lock:
            if self._state != FAILED:
                return False
            if self._ended:
                raise ValueError(f"{OVER} until the next start: {self._failure}")
            self._restarts.refill()
            self._restart()
            self._lock.notify()
        return True

    def reset(self) -> None:
        """Publish the shipped weights again, at once: a step that is running will count for nothing."""
        with self._lock:
            self._publish(self._shipped)

    def load_weights(self, weights: Weights) -> Weights:
        """Publish these weights, at once, and go on from them: a step that is running will count for nothing.

        Returned as published: under a later version than the one before, whatever theirs was.
        """
        with self._lock:
            weights = replace(weights, version=max(weights.version, self._published.version + 1))
            self._publish(weights)
        return weights

    def _publish(self, weights: Weights) -> None:
        self._owed = self._published = weights
        self._last = None
        self._drop_job()

    def close(self) -> None:
        """Cut the running step short, or let it end if it cannot be; then end the thread and let go of the adapter."""
        with self._lock:
            self._closed = True
            self._drop_job()
            self._lock.notify()
        self._hang_up()
        if self._thread is None:
            self._let_go()
        elif self._thread is not threading.current_thread():
            join(self._thread)

    def _work(self) -> None:
        try:
            while not self._closed:
                if self._state == FAILED:
                    self._await_revival()
                elif self._adapter is None:
                    self._start()
                else:
                    with self._lock:
                        self._lock.wait_for(lambda: self._slot or self._closed)
                    self._take_step()
        except BaseException as error:  # a thread must not end without a word
            log.exception("the adaptation thread ended")
            self._ended = True
            self._fail(f"the thread ended: {type(error).__name__}: {error}")
        finally:
            self._let_go()

    def _start(self) -> None:
        try:
            self._adapter = self._build()
        except AdapterDied as error:
            self._survive(error)
        except Exception as error:  # a file, a library or a device is not what was expected: trying again is no use
            log.exception("adaptation cannot start")
            self._fail(f"{type(error).__name__}: {error}")
        else:
            with self._lock:
                self._state, self._failure = RUNNING, ""
            log.info(READY)

    def _survive(self, death: AdapterDied) -> None:
        """Have a new adapter take the place of one that died, if it may still have one."""
        self._adapter = None
        if self._closed:  # as asked for
            return
        if self._restarts.take():
            log.error("%s; starting another", death)
            with self._lock:
                self._failure = str(death)
                self._restart()
            return
        wait_s = self._restarts.wait_s
        deaths = f"{death}, after {self._restarts.most} restarts in a row"
        self._fail(f"{deaths}; tries again in {_span(wait_s)}, or when it is resumed or reset", wait_s)

    def _restart(self) -> None:
        """Have the thread build another adapter."""
        self._count(restarts=1)
        self._state, self._owed = STARTING, self._published

    def _fail(self, reason: str, wait_s: float | None = None) -> None:
        log.error("%s, sweeps are segmented with the weights as they are: %s", OVER, reason)
        with self._lock:
            self._state, self._failure, self._wait_s = FAILED, reason, wait_s
            self._drop_job()

    def _await_revival(self) -> None:
        with self._lock:
            revived = self._lock.wait_for(lambda: self._closed or self._state != FAILED, self._wait_s)
            if not revived:
                self._restarts.spend()
                self._restart()

    def _let_go(self) -> None:
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def _take_step(self) -> None:
        with self._lock:
            job, self._slot = self._slot, None
            if job is None:  # withdrawn meanwhile
                return
            owed, self._owed = self._owed, None
        attempt = self._attempt(job, owed)
        if attempt is None:
            return
        report, weights, death = attempt
        if self._closed and death:  # cut short
            return
        with self._lock:
            if self._owed and (weights or report.accepted):
                report = replace(
                    report, version=self._published.version, accepted=False, reason="reset or loaded during the step"
                )
            elif weights:
                self._published = weights
            self._last = None if self._owed else report  # one of other weights than those published
            self._count(submitted=int(job.spare), rolled_back=int(report.rolled_back), **{report.outcome: 1})
        self._tell(report)
        if death is not None:
            self._survive(death)

    def _attempt(
        self, job: _Job, owed: Weights | None
    ) -> tuple[StepReport, Weights | None, AdapterDied | None] | None:
        """None where there is nothing to learn from."""
        config, death = self.config, None
        try:
            frame = job.make_frame()
            if frame is None:
                self._still_owed(owed)
                return None
            if owed is not None:
                self._adapter.load_weights(owed)
            report = self._adapter.step(frame, config)
            self._failing = 0
            moved = report.version != self._published.version
            return report, self._adapter.weights() if moved else None, None
        except AdapterDied as error:
            reason, death = str(error), error
        except Exception as error:  # whatever a driver, a decoder or a kernel raises must not end adaptation for good
            log.exception("the step for the sweep at %d ns failed", job.stamp)
            self._failing += 1
            reason = f"{type(error).__name__}: {error}"
            self._still_owed(owed)  # it may not have got that far
        with self._lock:
            self._count(failed=1)
        failed = StepReport(
            stamp=job.stamp, version=self._published.version, accepted=False, reason=reason,
            learning_rate=config.learning_rate, stride=config.stride,
        )
        return failed, None, death

    def _still_owed(self, weights: Weights | None) -> None:
        """Unless there are newer ones."""
        with self._lock:
            self._owed = self._owed or weights

    def _tell(self, report: StepReport) -> None:
        if self._on_report is None:
            return
        try:
            self._on_report(report)
        except Exception:  # a listener's fault is not adaptation's
            log.exception("on_report failed for the sweep at %d ns", report.stamp)

    def _drop_job(self) -> None:
        if self._slot is not None:
            self._count(replaced=int(not self._slot.spare))
            self._slot = None

    def _count(self, **more: int) -> None:
        self._counters = replace(
            self._counters, **{name: getattr(self._counters, name) + count for name, count in more.items()}
        )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
