import threading
from types import MappingProxyType

import pytest
import torch

from tttkd_ros.adaptation.adapter import AdapterDied, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.restarts import RESTARTS, RestartBudget
from tttkd_ros.adaptation.worker import FAILED, RUNNING, STARTING, AdaptationWorker
from tttkd_ros.segmenter.weights import Weights

PATIENCE = 10  # seconds until a test that hangs fails
SHIPPED = Weights(0, MappingProxyType({"weight": torch.zeros(1)}))


class Adapter:
    """Adds 1 to its only weight at every step; a step can be held up, and fails for a frame that is an exception."""

    def __init__(self):
        self.weight, self.version = torch.zeros(1), 0
        self.frames, self.configs = [], []
        self.entered, self.gate = threading.Semaphore(0), threading.Event()
        self.gate.set()
        self.closed = False

    def step(self, frame, config):
        self.frames.append(frame)
        self.configs.append(config)
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        if frame == "deadly":
            raise AdapterDied("it died")
        if frame == "known":
            return StepReport(0, self.version, False, "nothing new", skipped=True)
        accepted = frame != "bad"
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
    worker = AdaptationWorker(lambda: adapter, SHIPPED, TTTConfig(), reports)
    yield worker
    adapter.gate.set()
    worker.close()


def busy_with(worker, adapter, frame="first"):
    """Hand in a job and return once its step is under way; it stays there until the gate opens."""
    adapter.gate.clear()
    worker.submit(0, lambda: frame)
    assert adapter.entered.acquire(timeout=PATIENCE)


def raises():
    raise OSError("the image is cut short")


def test_accepted_weights_are_published_with_their_version(worker, reports):
    assert worker.published.version == 0
    worker.submit(0, lambda: "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (1, 1)


def test_rejected_weights_are_not_published(worker, reports):
    before = worker.published
    worker.submit(0, lambda: "bad")
    reports.wait()
    assert worker.published is before
    assert worker.counters.rejected == 1


def test_a_step_that_is_not_needed_is_counted_as_neither(worker, reports):
    worker.submit(0, lambda: "known")
    reports.wait()
    assert (worker.counters.skipped, worker.counters.accepted, worker.counters.rejected) == (1, 0, 0)


def test_only_the_newest_waiting_job_is_done_and_the_others_are_never_built(worker, adapter, reports):
    busy_with(worker, adapter)
    built = []
    for name in ("second", "third", "fourth"):
        worker.submit(0, lambda name=name: built.append(name) or name)
    adapter.gate.set()
    reports.wait(2)
    assert built == ["fourth"]
    assert adapter.frames == ["first", "fourth"]
    assert (worker.counters.submitted, worker.counters.replaced, worker.counters.accepted) == (4, 2, 2)


def test_a_spare_job_gives_way_to_one_that_waits(worker, adapter, reports):
    busy_with(worker, adapter)
    worker.submit(1, lambda: "second")
    worker.submit(2, lambda: "spare", spare=True)
    adapter.gate.set()
    reports.wait(2)
    assert adapter.frames == ["first", "second"]
    assert worker.counters.submitted == worker.counters.accepted == 2


def test_a_spare_job_that_is_overtaken_is_not_counted(worker, adapter, reports):
    busy_with(worker, adapter)
    worker.submit(1, lambda: "overtaken", spare=True)
    worker.submit(2, lambda: "second")
    adapter.gate.set()
    reports.wait(2)
    assert adapter.frames == ["first", "second"]
    assert (worker.counters.submitted, worker.counters.replaced) == (2, 0)


def test_a_spare_job_counts_where_it_has_a_frame_and_else_leaves_what_is_owed(adapter, reports):
    worker = AdaptationWorker(lambda: adapter, SHIPPED, TTTConfig(), reports, background=False)
    worker.submit(0, lambda: "frame")
    worker.reset()
    worker.submit(1, lambda: None, spare=True)
    assert (adapter.version, worker.published.version, worker.counters.submitted, len(reports)) == (1, 0, 1, 1)
    worker.submit(2, lambda: "frame", spare=True)
    assert (adapter.weight.item(), worker.published.tensors["weight"].item()) == (1, 1)
    assert worker.counters.submitted == worker.counters.accepted == 2


def test_submit_does_not_wait_for_the_step(worker, adapter):
    busy_with(worker, adapter)
    worker.submit(1, lambda: "second")  # returns although the gate is shut
    assert adapter.frames == ["first"]


def test_an_exception_in_a_job_is_reported_and_survived(worker, reports):
    worker.submit(7, raises)
    reports.wait()
    assert (reports[0].stamp, reports[0].accepted) == (7, False)
    assert reports[0].reason == "OSError: the image is cut short"
    worker.submit(8, lambda: "frame")
    reports.wait()
    assert reports[1].accepted
    assert (worker.counters.failed, worker.counters.rejected, worker.counters.accepted) == (1, 1, 1)


def test_an_exception_in_the_listener_is_survived(adapter):
    told = Reports()

    def listener(report):
        told(report)
        raise RuntimeError("listener")

    worker = AdaptationWorker(lambda: adapter, SHIPPED, TTTConfig(), listener)
    for _ in range(2):
        worker.submit(0, lambda: "frame")
        told.wait()
    worker.close()
    assert worker.counters.accepted == 2


def test_a_new_configuration_applies_from_the_next_step(worker, adapter, reports):
    busy_with(worker, adapter)
    worker.config = TTTConfig(learning_rate=0.5)
    worker.submit(0, lambda: "second")
    adapter.gate.set()
    reports.wait(2)
    assert [config.learning_rate for config in adapter.configs] == [TTTConfig().learning_rate, 0.5]


def test_a_paused_worker_takes_no_job_until_it_is_resumed(worker, adapter, reports):
    worker.pause()
    worker.submit(0, lambda: "while paused")
    worker.resume()
    worker.submit(0, lambda: "after")
    reports.wait()
    assert adapter.frames == ["after"]


def test_pausing_drops_the_waiting_job_and_finishes_the_running_one(worker, adapter, reports):
    busy_with(worker, adapter)
    worker.submit(0, lambda: "waiting")
    worker.pause()
    adapter.gate.set()
    reports.wait()
    worker.close()
    assert adapter.frames == ["first"]
    assert worker.published.version == 1


def test_reset_publishes_the_shipped_weights_at_once(worker, reports):
    shipped = worker.published
    worker.submit(0, lambda: "frame")
    reports.wait()
    worker.reset()
    assert worker.published is shipped
    worker.submit(0, lambda: "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (1, 1)


def test_a_step_that_is_running_at_reset_counts_for_nothing(worker, adapter, reports):
    busy_with(worker, adapter)
    worker.reset()
    adapter.gate.set()
    reports.wait()
    assert (reports[0].accepted, reports[0].reason, reports[0].version) == (False, "reset or loaded during the step", 0)
    assert worker.published.version == 0
    worker.submit(0, lambda: "frame")
    reports.wait()
    assert worker.published.tensors["weight"].item() == 1


def test_a_step_that_is_running_at_a_load_counts_for_nothing_though_its_version_is_that_of_the_loaded(
    worker, adapter, reports
):
    busy_with(worker, adapter)
    loaded = worker.load_weights(SHIPPED)
    adapter.gate.set()
    reports.wait()
    assert (loaded.version, worker.published) == (1, loaded)
    assert (reports[0].accepted, reports[0].reason, reports[0].version) == (False, "reset or loaded during the step", 1)
    assert (worker.counters.accepted, worker.counters.rejected) == (0, 1)


def test_adopted_weights_are_published_at_once_and_gone_on_from(worker, reports):
    saved = Weights(7, MappingProxyType({"weight": torch.full((1,), 5.0)}))
    assert worker.load_weights(saved) is worker.published
    assert (worker.published.version, worker.published.tensors) == (7, saved.tensors)
    worker.submit(0, lambda: "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (8, 6)


def test_adopted_weights_never_share_a_version_with_those_published(worker):
    saved = Weights(7, MappingProxyType({"weight": torch.full((1,), 5.0)}))
    assert [worker.load_weights(saved).version for _ in range(3)] == [7, 8, 9]


def test_an_adapter_that_dies_is_replaced_and_its_heir_goes_on_from_what_was_published(reports):
    made = []
    worker = AdaptationWorker(lambda: made.append(Adapter()) or made[-1], SHIPPED, TTTConfig(), reports)
    for frame in ("frame", "deadly", "frame"):
        worker.submit(0, lambda frame=frame: frame)
        reports.wait()
    worker.close()
    assert [report.reason for report in reports] == ["", "it died", ""]
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (2, 2)
    assert (len(made), worker.counters.restarts) == (2, 1)


def test_adapters_that_keep_dying_are_given_up_with_the_reason(reports):
    worker = AdaptationWorker(Adapter, SHIPPED, TTTConfig(), reports)
    for _ in range(RESTARTS + 1):
        worker.submit(0, lambda: "deadly")
        reports.wait()
    worker.close()
    assert worker.state == FAILED
    assert worker.failure.startswith(f"it died, after {RESTARTS} restarts in a row; tries again in 10 min")
    worker.submit(0, lambda: "late")
    assert worker.counters.submitted == RESTARTS + 1


def killed(worker, reports, times=RESTARTS + 1):
    for _ in range(times):
        worker.submit(0, lambda: "deadly")
        reports.wait()
    wait_for(lambda: worker.state == FAILED)


def wait_for(condition):
    waiting = threading.Event()
    for _ in range(100 * PATIENCE):
        if condition():
            return
        waiting.wait(0.01)
    raise AssertionError("waited in vain")


def test_adaptation_that_has_stopped_goes_on_when_it_is_revived_with_all_restarts_ahead(reports):
    worker = AdaptationWorker(Adapter, SHIPPED, TTTConfig(), reports)
    worker.submit(0, lambda: "frame")
    reports.wait()
    killed(worker, reports)
    assert worker.revive()
    wait_for(lambda: worker.state == RUNNING)
    assert worker.failure == ""
    worker.submit(0, lambda: "frame")
    reports.wait()
    assert (worker.published.version, worker.published.tensors["weight"].item()) == (2, 2)
    killed(worker, reports)
    worker.close()
    assert worker.counters.restarts == 2 * RESTARTS + 1


def test_adaptation_that_has_stopped_tries_again_once_a_restart_is_earned(reports):
    worker = AdaptationWorker(Adapter, SHIPPED, TTTConfig(), reports, restarts=RestartBudget(1, 0.3))
    for _ in range(2):
        worker.submit(0, lambda: "deadly")
        reports.wait()
    wait_for(lambda: worker.state == RUNNING and worker.counters.restarts == 2)
    worker.submit(0, lambda: "frame")
    reports.wait()
    worker.close()
    assert worker.published.version == 1


def test_an_adapter_that_could_not_be_built_is_tried_again_when_it_is_revived(reports):
    def build():
        if not there:
            raise ValueError("no such teacher")
        return Adapter()

    there = []
    worker = AdaptationWorker(build, SHIPPED, TTTConfig(), reports)
    for _ in range(2):
        wait_for(lambda: worker.state == FAILED)
        assert worker.failure == "ValueError: no such teacher"
        assert worker.revive()
    wait_for(lambda: worker.state == FAILED)
    there.append("teacher")
    worker.revive()
    worker.submit(0, lambda: "frame")
    reports.wait()
    worker.close()
    assert worker.published.version == 1


def test_what_has_not_stopped_is_not_revived(worker, adapter, reports):
    assert not worker.revive()
    worker.submit(0, lambda: "frame")
    reports.wait()
    assert not worker.revive()
    assert worker.counters.restarts == 0


def test_a_thread_that_has_ended_is_not_revived_and_says_why(adapter, reports):
    def end(frame, config):
        raise SystemExit("enough")

    adapter.step = end
    worker = AdaptationWorker(lambda: adapter, SHIPPED, TTTConfig(), reports)
    worker.submit(0, lambda: "frame")
    wait_for(lambda: worker.state == FAILED)
    with pytest.raises(ValueError, match="has stopped until the next start: the thread ended: SystemExit: enough"):
        worker.revive()
    worker.close()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_steps_that_fail_in_a_row_are_counted_until_one_does_not(worker, reports, number):
    for _ in range(number):
        worker.submit(0, raises)
        reports.wait()
    assert worker.failing == number
    worker.submit(0, lambda: "bad")  # refused, but not failed
    reports.wait()
    assert worker.failing == 0


def test_an_adapter_that_cannot_be_built_is_reported_and_not_tried_again():
    def build():
        built.append(1)
        raise ValueError("no such teacher")

    built = []
    worker = AdaptationWorker(build, SHIPPED, TTTConfig())
    worker.close()
    assert (worker.state, worker.failure, len(built)) == (FAILED, "ValueError: no such teacher", 1)


def test_the_newest_job_waits_for_an_adapter_that_is_still_being_built(reports):
    gate, adapter = threading.Event(), Adapter()
    worker = AdaptationWorker(lambda: gate.wait(PATIENCE) and adapter, SHIPPED, TTTConfig(), reports)
    for stamp in range(3):
        worker.submit(stamp, lambda stamp=stamp: stamp)
    assert worker.state == STARTING
    gate.set()
    reports.wait()
    worker.close()
    assert adapter.frames == [2]


def test_closing_lets_go_of_the_adapter(worker, adapter, reports):
    worker.submit(0, lambda: "frame")
    reports.wait()
    worker.close()
    assert adapter.closed


def hangs_until(hung_up):
    """What a process does that is asked for something: it keeps one waiting, unless it is killed."""
    assert hung_up.wait(PATIENCE)
    raise AdapterDied("it was killed")


def test_closing_cuts_short_a_build(reports):
    hung_up = threading.Event()
    worker = AdaptationWorker(lambda: hangs_until(hung_up), SHIPPED, TTTConfig(), reports, cancel=hung_up.set)
    worker.close()
    assert not any(thread.name == "adaptation" for thread in threading.enumerate())
    assert worker.counters.restarts == 0


def test_closing_cuts_short_a_step_that_then_counts_for_nothing(adapter, reports):
    hung_up, entered = threading.Event(), threading.Event()
    adapter.step = lambda frame, config: entered.set() or hangs_until(hung_up)
    worker = AdaptationWorker(lambda: adapter, SHIPPED, TTTConfig(), reports, cancel=hung_up.set)
    worker.submit(0, lambda: "frame")
    assert entered.wait(PATIENCE)
    worker.close()
    assert not any(thread.name == "adaptation" for thread in threading.enumerate())
    assert (reports, worker.counters.restarts) == ([], 0)


def test_close_ends_the_thread_and_later_jobs_are_ignored(worker, adapter):
    worker.close()
    worker.submit(0, lambda: "late")
    worker.close()
    assert not any(thread.name == "adaptation" for thread in threading.enumerate())
    assert adapter.frames == []


def test_inline_the_step_is_done_when_submit_returns(adapter, reports):
    worker = AdaptationWorker(lambda: adapter, SHIPPED, TTTConfig(), reports, background=False)
    worker.submit(0, lambda: "frame")
    assert worker.published.version == 1
    worker.submit(0, raises)
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
        worker.submit(0, lambda: "frame")
        reports.wait()
    done.set()
    reader.join()
    assert all(version == weight for version, weight in seen)
