from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.worker import Counters
from tttkd_ros.monitoring.statistics import MIN_STEPS, Statistics
from tttkd_ros.monitoring.topic_health import TopicHealth
from tttkd_ros.pipeline import GUARD_PAUSE, STARVING, AdaptationStatus
from tttkd_ros.ros.diagnostics import Diagnostics, Snapshot

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@pytest.fixture
def statistics():
    return Statistics()


@pytest.fixture
def log():
    return []


@pytest.fixture
def statuses(statistics, log):
    """`statuses(state, ...)`: level and message of each status; `statuses.values`: those of the last adaptation."""
    diagnostics = Diagnostics(
        "segmenter", statistics, lambda text: log.append(("warn", text)), lambda text: log.append(("info", text))
    )

    def statuses(state="active", **fields):
        of_adaptation = {name: fields.pop(name) for name in ("stopped", "restarting", "failing") if name in fields}
        text = fields.pop("adaptation", "running")
        adaptation = AdaptationStatus(text, counters=Counters(submitted=9, replaced=2), **of_adaptation)
        fields = {"version": 4, "images": {"left": 7}} | fields
        found = diagnostics.statuses(Snapshot(state, adaptation, **fields))
        statuses.values = {pair.key: pair.value for pair in found[1].values}
        return [(status.level, status.message) for status in found]

    return statuses


def refused(reason, **fields):
    return StepReport(stamp=0, version=0, accepted=False, reason=reason, **fields)


def test_a_running_node_is_ok(statistics, statuses):
    statistics.count("sweeps in")
    statistics.count("sweeps out")
    assert statuses() == [(OK, "active"), (OK, "running")]


def test_a_dropped_sweep_is_a_warning_once(statistics, statuses):
    for event in ("sweeps in", "sweeps dropped"):
        statistics.count(event)
    assert statuses()[0] == (WARN, "1 sweeps dropped")
    statistics.count("sweeps in")
    assert statuses()[0] == (OK, "active")


def test_an_active_node_without_sweeps_and_an_inactive_node_are_warnings(statuses):
    assert statuses()[0] == (WARN, "active, but no sweep came")
    assert statuses("inactive")[0] == (WARN, "inactive")


def test_rejected_steps_are_a_warning_with_their_reasons(statistics, statuses):
    statistics.add_step(refused("the loss is not finite"))
    assert statuses()[1] == (WARN, "1 steps rejected")
    values = statuses.values
    assert values["rejected: the loss is not finite"] == "1"
    assert (values["jobs"], values["replaced"], values["version"], values["images of left"]) == ("9", "2", "4", "7")


def test_a_skipped_step_is_no_warning(statistics, statuses):
    statistics.add_step(refused("enough learned", skipped=True))
    assert statuses(adaptation="waiting: enough learned")[1] == (OK, "waiting: enough learned")
    assert not any(key.startswith("rejected:") for key in statuses.values)


@pytest.mark.parametrize(
    ("field", "level"), [("stopped", ERROR), ("restarting", WARN), ("failing", WARN)],
)
def test_adaptation_that_is_broken_is_reported_with_its_reason_as_long_as_it_is(statistics, statuses, field, level):
    statistics.add_step(refused("OSError: cut short"))
    for _ in range(2):
        assert statuses(adaptation="reason", **{field: True})[1] == (level, "reason")


@pytest.mark.parametrize(
    ("field", "text"),
    [("problem", "0.0 % of the points are in range"), ("trouble", "the last 5 sweeps got no answer"),
     ("slow", "predictions alone take nearly all of the deadline")],
)
def test_sweeps_with_a_problem_are_a_warning_as_long_as_they_come(statistics, statuses, field, text):
    for _ in range(3):
        statistics.count("sweeps in")
        level, message = statuses(**{field: text})[0]
        assert level == WARN and text in message
    statistics.count("sweeps in")
    assert statuses()[0][0] == OK


@pytest.mark.parametrize(
    "adaptation",
    [
        f"{STARVING}: a step is due on every 320 sweeps instead of 5",
        f"{GUARD_PAUSE}: alignment 0.001, 0.002 on average",
        f"{GUARD_PAUSE}: the image of front is frozen: identical to the one before",
    ],
)
def test_adaptation_that_is_blocked_is_a_steady_warning_and_logged_at_each_change(statuses, log, adaptation):
    for _ in range(3):
        level, message = statuses(adaptation=adaptation)[1]
        assert level == WARN and message.startswith(adaptation)
    assert statuses()[1][0] == OK
    assert [(level, text.startswith(f"adaptation: {adaptation}")) for level, text in log] == [
        ("warn", True), ("info", False)
    ]


def test_starving_adaptation_is_reported_with_its_number_of_steps(statistics, statuses):
    for _ in range(2):
        statistics.add_step(StepReport(stamp=0, version=1, accepted=True))
    assert statuses(adaptation=f"{STARVING}: of sweeps")[1] == (
        WARN, f"{STARVING}: of sweeps (2 steps in the last minute)"
    )


def test_steps_that_are_all_refused_are_a_steady_warning_and_logged_once(statistics, statuses, log):
    for number in range(MIN_STEPS + 3):
        statistics.add_step(refused(f"image {number} s late"))
        statuses()
    steps = MIN_STEPS + 3
    assert statuses()[1] == (WARN, f"{steps} of {steps} steps were refused: image {steps - 1} s late")
    first = f"{MIN_STEPS} of {MIN_STEPS} steps were refused: image {MIN_STEPS - 1} s late"
    assert log == [("warn", f"adaptation: {first}")]


def topic(received, lost, problem=""):
    health = TopicHealth("/points", "")
    health.received, health.lost, health.problem = received, lost, problem
    return health


@pytest.mark.parametrize(
    ("health", "expected"),
    [(topic(3, 0), (OK, "all topics bring messages")),
     (topic(0, 0, "nothing comes"), (WARN, "/points: nothing comes")),
     (topic(3, 2), (WARN, "/points: 2 messages lost on the way"))],
)
def test_a_topic_that_is_silent_or_loses_messages_is_a_warning(statistics, health, expected):
    status = Diagnostics("segmenter", statistics, print, print).statuses(Snapshot("active", inputs=(health,)))[2]
    assert (status.level, status.message) == expected
    assert {pair.key: pair.value for pair in status.values} == {
        "/points received": str(health.received), "/points lost": str(health.lost)
    }


def test_lost_messages_are_a_warning_once(statuses):
    inputs = (topic(3, 2),)
    assert [statuses(inputs=inputs)[2][0] for _ in range(2)] == [WARN, OK]
