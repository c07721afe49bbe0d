import threading
from dataclasses import dataclass
from types import MappingProxyType

import pytest
import torch

from tttkd_ros.adaptation.adapter import AdapterDied, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.restarts import MAX_RESTARTS, RestartBudget
from tttkd_ros.adaptation.worker import RUNNING, STARTING, STOPPED, AdaptationWorker, Job
from tttkd_ros.segmenter.weights import Weights

PATIENCE = 10  # seconds until a test that hangs fails
SHIPPED = Weights(0, MappingProxyType({"weight": torch.zeros(1)}))


@dataclass
class Frame:
    """Stands for a frame. The adapter acts on its name."""

    name: str
    views: tuple = ("view",)


class Adapter:
    """Adds 1 to its only weight at every step. A closed gate blocks the step."""

    def __init__(self):
        self.weight, self.version = torch.zeros(1), 0
        self.frames, self.configs = [], []
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        self.gate.set()
        self.closed = False

    def step(self, frame, config):
        self.frames.append(frame.name)
        self.configs.append(config)
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        if frame.name == "deadly":
            raise AdapterDied("it died")
        if frame.name == "known":
            return StepReport(0, self.version, False, "nothing new", skipped=True)
        accepted = frame.name != "bad"
        if accepted:
            self.weight += 1
            self.version += 1
        return StepReport(0, self.version, accepted, "" if accepted else "bad frame")

    def weights(self):
        return Weights(self.version, MappingProxyType({"weight": self.weight.clone()}))

    def load_weights(self, weights):
        self.weight.copy_(weights.tensors["weight"])
        self.version = weights.version

    def close(self):
        self.closed = True


class Reports(list):
    """A listener that can be waited for."""

    def __init__(self):
        self._arrived = threading.Semaphore(0)

    def __call__(self, report):
        self.append(report)
        self._arrived.release()

    def wait(self, count=1):
        for _ in range(count):
            assert self._arrived.acquire(timeout=PATIENCE)


@pytest.fixture
def adapter():
    return Adapter()


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def worker(adapter, reports):
    worker = AdaptationWorker(lambda: adapter, SHIPPED, reports)
    yield worker
    adapter.gate.set()
    worker.close()


def submit(worker, frame, stamp=0, *, retry=False, config=None):
    """frame: the name of a frame, None for a frame without images, or what builds one."""

    def build():
        return frame() if callable(frame) else Frame(frame or "blind", () if frame is None else ("view",))

    sweep = 2 * stamp + retry
    worker.submit(Job(stamp, build, config or TTTConfig(), sweep, sweep - retry))


def busy_with(worker, adapter, frame="first"):
    """Hand in a job and return once its step is under way; it stays there until the gate opens."""
    adapter.gate.clear()
    submit(worker, frame)
    assert adapter.entered.acquire(timeout=PATIENCE)


def raises():
    raise OSError("the image is cut short")


def test_accepted_weights_are_published_with_their_version(worker, reports):
    assert worker.published.version == 0
    submit(worker, "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (1, 1)


def test_rejected_weights_are_not_published(worker, reports):
    before = worker.published
    submit(worker, "bad")
    reports.wait()
    assert worker.published is before
    assert worker.status.counters.rejected == 1


def test_a_skipped_step_is_counted_as_skipped(worker, reports):
    submit(worker, "known")
    reports.wait()
    counters = worker.status.counters
    assert (counters.skipped, counters.accepted, counters.rejected) == (1, 0, 0)


def test_only_the_newest_job_is_done_and_no_other_frame_is_built(worker, adapter, reports):
    busy_with(worker, adapter)
    built = []
    for name in ("second", "third", "fourth"):
        submit(worker, lambda name=name: built.append(name) or Frame(name))
    adapter.gate.set()
    reports.wait(2)
    assert built == ["fourth"]
    assert adapter.frames == ["first", "fourth"]
    counters = worker.status.counters
    assert (counters.submitted, counters.replaced, counters.accepted) == (4, 2, 2)


def test_a_retry_is_dropped_if_a_job_waits(worker, adapter, reports):
    busy_with(worker, adapter)
    submit(worker, "second", 1)
    submit(worker, "spare", 2, retry=True)
    adapter.gate.set()
    reports.wait(2)
    assert adapter.frames == ["first", "second"]
    assert worker.status.counters.submitted == worker.status.counters.accepted == 2


def test_a_newer_retry_replaces_an_older_one(worker, adapter, reports):
    busy_with(worker, adapter)
    for stamp, frame in enumerate(("older", "newer"), 1):
        submit(worker, frame, stamp, retry=True)
    adapter.gate.set()
    reports.wait(2)
    assert adapter.frames == ["first", "newer"]
    assert (worker.status.counters.submitted, worker.status.counters.replaced) == (2, 0)


def test_a_replaced_retry_is_not_counted(worker, adapter, reports):
    busy_with(worker, adapter)
    submit(worker, "overtaken", 1, retry=True)
    submit(worker, "second", 2)
    adapter.gate.set()
    reports.wait(2)
    assert adapter.frames == ["first", "second"]
    assert (worker.status.counters.submitted, worker.status.counters.replaced) == (2, 0)


def test_a_retry_counts_if_it_has_an_image_and_else_keeps_pending_weights(adapter, reports):
    worker = AdaptationWorker(lambda: adapter, SHIPPED, reports, background=False)
    submit(worker, "frame")
    worker.load_weights()
    submit(worker, None, 1, retry=True)
    assert (adapter.version, worker.published.version, worker.status.counters.submitted, len(reports)) == (1, 0, 1, 1)
    submit(worker, "frame", 2, retry=True)
    assert (adapter.weight.item(), worker.published.tensors["weight"].item()) == (1, 1)
    assert worker.status.counters.submitted == worker.status.counters.accepted == 2


def test_submit_does_not_wait_for_the_step(worker, adapter):
    busy_with(worker, adapter)
    submit(worker, "second", 1)  # returns although the gate is shut
    assert adapter.frames == ["first"]


def test_an_exception_in_a_job_is_reported_and_survived(worker, reports):
    submit(worker, raises, 7)
    reports.wait()
    assert (reports[0].stamp, reports[0].accepted) == (7, False)
    assert reports[0].reason == "OSError: the image is cut short"
    submit(worker, "frame", 8)
    reports.wait()
    assert reports[1].accepted
    counters = worker.status.counters
    assert (counters.failed, counters.rejected, counters.accepted) == (1, 1, 1)


def test_an_exception_in_the_listener_is_survived(adapter):
    heard = Reports()

    def listener(report):
        heard(report)
        raise RuntimeError("listener")

    worker = AdaptationWorker(lambda: adapter, SHIPPED, listener)
    for _ in range(2):
        submit(worker, "frame")
        heard.wait()
    worker.close()
    assert worker.status.counters.accepted == 2


def test_a_new_configuration_applies_from_the_next_step(worker, adapter, reports):
    busy_with(worker, adapter)
    submit(worker, "second", config=TTTConfig(learning_rate=0.5))
    adapter.gate.set()
    reports.wait(2)
    assert [config.learning_rate for config in adapter.configs] == [TTTConfig().learning_rate, 0.5]


def test_a_paused_worker_takes_no_job_until_it_is_resumed(worker, adapter, reports):
    worker.pause()
    submit(worker, "while paused")
    worker.pause(False)
    submit(worker, "after")
    reports.wait()
    assert adapter.frames == ["after"]


def test_pausing_drops_the_waiting_job_and_finishes_the_running_one(worker, adapter, reports):
    busy_with(worker, adapter)
    submit(worker, "waiting")
    worker.pause()
    adapter.gate.set()
    reports.wait()
    worker.close()
    assert adapter.frames == ["first"]
    assert worker.published.version == 1


def test_reset_publishes_the_shipped_weights_at_once(worker, reports):
    shipped = worker.published
    submit(worker, "frame")
    reports.wait()
    worker.load_weights()
    assert worker.published is shipped
    submit(worker, "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (1, 1)


def test_the_result_of_a_step_that_runs_at_a_reset_is_discarded(worker, adapter, reports):
    busy_with(worker, adapter)
    worker.load_weights()
    adapter.gate.set()
    reports.wait()
    assert (reports[0].accepted, reports[0].reason, reports[0].version) == (False, "reset or loaded during the step", 0)
    assert worker.published.version == 0
    submit(worker, "frame")
    reports.wait()
    assert worker.published.tensors["weight"].item() == 1


def test_the_result_of_a_step_that_runs_at_a_load_is_discarded(
    worker, adapter, reports
):
    busy_with(worker, adapter)
    loaded = worker.load_weights(SHIPPED)
    adapter.gate.set()
    reports.wait()
    assert (loaded.version, worker.published) == (1, loaded)
    assert (reports[0].accepted, reports[0].reason, reports[0].version) == (False, "reset or loaded during the step", 1)
    assert (worker.status.counters.accepted, worker.status.counters.rejected) == (0, 1)


def test_loaded_weights_are_published_at_once_and_adapted_further(worker, reports):
    saved = Weights(7, MappingProxyType({"weight": torch.full((1,), 5.0)}))
    assert worker.load_weights(saved) is worker.published
    assert (worker.published.version, worker.published.tensors) == (7, saved.tensors)
    submit(worker, "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (8, 6)


def test_loaded_weights_always_get_a_new_version(worker):
    saved = Weights(7, MappingProxyType({"weight": torch.full((1,), 5.0)}))
    assert [worker.load_weights(saved).version for _ in range(3)] == [7, 8, 9]


def test_an_adapter_that_dies_is_replaced_and_continues_from_the_published_weights(reports):
    made = []
    worker = AdaptationWorker(lambda: made.append(Adapter()) or made[-1], SHIPPED, reports)
    for frame in ("frame", "deadly", "frame"):
        submit(worker, frame)
        reports.wait()
    worker.close()
    assert [report.reason for report in reports] == ["", "it died", ""]
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (2, 2)
    assert (len(made), worker.status.counters.restarts) == (2, 1)


def test_adapters_that_keep_dying_stop_adaptation_with_the_reason(reports):
    worker = AdaptationWorker(Adapter, SHIPPED, reports)
    for _ in range(MAX_RESTARTS + 1):
        submit(worker, "deadly")
        reports.wait()
    worker.close()
    assert worker.status.state == STOPPED
    assert worker.status.failure.startswith(f"it died, after {MAX_RESTARTS} restarts in a row; tries again in 10 min")
    submit(worker, "late")
    assert worker.status.counters.submitted == MAX_RESTARTS + 1


def killed(worker, reports, times=MAX_RESTARTS + 1):
    for _ in range(times):
        submit(worker, "deadly")
        reports.wait()
    wait_for(lambda: worker.status.state == STOPPED)


def wait_for(condition):
    waiting = threading.Event()
    for _ in range(100 * PATIENCE):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("the condition never held")


def test_revive_starts_stopped_adaptation_with_all_restarts(reports):
    worker = AdaptationWorker(Adapter, SHIPPED, reports)
    submit(worker, "frame")
    reports.wait()
    killed(worker, reports)
    assert worker.revive()
    wait_for(lambda: worker.status.state == RUNNING)
    assert worker.status.failure == ""
    submit(worker, "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (2, 2)
    killed(worker, reports)
    worker.close()
    assert worker.status.counters.restarts == 2 * MAX_RESTARTS + 1


def test_stopped_adaptation_restarts_once_a_restart_is_earned(reports):
    worker = AdaptationWorker(Adapter, SHIPPED, reports, restarts=RestartBudget(1, 0.3))
    for _ in range(2):
        submit(worker, "deadly")
        reports.wait()
    wait_for(lambda: worker.status.state == RUNNING and worker.status.counters.restarts == 2)
    submit(worker, "frame")
    reports.wait()
    worker.close()
    assert worker.published.version == 1


def test_revive_builds_an_adapter_that_could_not_be_built(reports):
    def build():
        if not there:
            raise ValueError("no such teacher")
        return Adapter()

    there = []
    worker = AdaptationWorker(build, SHIPPED, reports)
    for _ in range(2):
        wait_for(lambda: worker.status.state == STOPPED)
        assert worker.status.failure == "ValueError: no such teacher"
        assert worker.revive()
    wait_for(lambda: worker.status.state == STOPPED)
    there.append("teacher")
    worker.revive()
    submit(worker, "frame")
    reports.wait()
    worker.close()
    assert worker.published.version == 1


def test_revive_does_nothing_while_adaptation_runs(worker, adapter, reports):
    assert not worker.revive()
    submit(worker, "frame")
    reports.wait()
    assert not worker.revive()
    assert worker.status.counters.restarts == 0


def test_revive_refuses_after_the_thread_ended(adapter, reports):
    def end(frame, config):
        raise SystemExit("enough")

    adapter.step = end
    worker = AdaptationWorker(lambda: adapter, SHIPPED, reports)
    submit(worker, "frame")
    wait_for(lambda: worker.status.state == STOPPED)
    with pytest.raises(ValueError, match="has stopped until the next start: the thread ended: SystemExit: enough"):
        worker.revive()
    worker.close()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_failures_in_a_row_are_counted_until_a_step_succeeds(worker, reports, number):
    for _ in range(number):
        submit(worker, raises)
        reports.wait()
    assert worker.status.failures == number
    submit(worker, "bad")  # refused, but not failed
    reports.wait()
    assert worker.status.failures == 0


def test_an_adapter_that_cannot_be_built_is_reported_and_not_retried():
    def build():
        built.append(1)
        raise ValueError("no such teacher")

    built = []
    worker = AdaptationWorker(build, SHIPPED)
    worker.close()
    assert (worker.status.state, worker.status.failure, len(built)) == (STOPPED, "ValueError: no such teacher", 1)


def test_the_newest_job_waits_for_an_adapter_that_is_still_being_built(reports):
    gate, adapter = threading.Event(), Adapter()
    worker = AdaptationWorker(lambda: gate.wait(PATIENCE) and adapter, SHIPPED, reports)
    for stamp in range(3):
        submit(worker, stamp, stamp)
    assert worker.status.state == STARTING
    gate.set()
    reports.wait()
    worker.close()
    assert adapter.frames == [2]


def test_close_closes_the_adapter(worker, adapter, reports):
    submit(worker, "frame")
    reports.wait()
    worker.close()
    assert adapter.closed


def hangs_until(cancelled):
    """What a process does that is asked for something: it keeps one waiting, unless it is killed."""
    assert cancelled.wait(PATIENCE)
    raise AdapterDied("it was killed")


def test_close_cancels_a_build(reports):
    cancelled = threading.Event()
    worker = AdaptationWorker(lambda: hangs_until(cancelled), SHIPPED, reports, cancel=cancelled.set)
    worker.close()
    assert not any(thread.name == "adaptation" for thread in threading.enumerate())
    assert worker.status.counters.restarts == 0


def test_closing_cuts_short_a_step_that_then_counts_for_nothing(adapter, reports):
    cancelled, entered = threading.Event(), threading.Event()
    adapter.step = lambda frame, config: entered.set() or hangs_until(cancelled)
    worker = AdaptationWorker(lambda: adapter, SHIPPED, reports, cancel=cancelled.set)
    submit(worker, "frame")
    assert entered.wait(PATIENCE)
    worker.close()
    assert not any(thread.name == "adaptation" for thread in threading.enumerate())
    assert (reports, worker.status.counters.restarts) == ([], 0)


def test_close_ends_the_thread_and_later_jobs_are_ignored(worker, adapter):
    worker.close()
    submit(worker, "late")
    worker.close()
    assert not any(thread.name == "adaptation" for thread in threading.enumerate())
    assert adapter.frames == []


def test_inline_the_step_is_done_when_submit_returns(adapter, reports):
    worker = AdaptationWorker(lambda: adapter, SHIPPED, reports, background=False)
    submit(worker, "frame")
    assert worker.published.version == 1
    submit(worker, raises)
    assert [report.accepted for report in reports] == [True, False]
    worker.close()


def test_weights_are_seen_whole_while_steps_go_on(worker, adapter, reports):
    """A reader beside the worker never sees a weight that does not belong to its version."""
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            weights = worker.published
            seen.add((weights.version, weights.tensors["weight"].item()))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        submit(worker, "frame")
        reports.wait()
    done.set()
    reader.join()
    assert all(version == weight for version, weight in seen)
