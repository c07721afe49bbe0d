from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402

from tttkd_ros.adaptation.adapter import StepReport  # noqa: E402
from tttkd_ros.adaptation.worker import Counters  # noqa: E402
from tttkd_ros.monitoring.statistics import MIN_STEPS, Statistics  # noqa: E402
from tttkd_ros.pipeline import GUARD_PAUSE, STARVING  # noqa: E402
from tttkd_ros.ros.diagnostics import Diagnostics, Snapshot  # noqa: E402
from tttkd_ros.ros.sensor_topic import TopicStatus  # noqa: E402


@pytest.fixture
def statistics():
    return Statistics()


@pytest.fixture
def logged():
    return []


@pytest.fixture
def look(statistics, logged):
    diagnostics = Diagnostics(
        "segmenter", statistics, lambda text: logged.append(("warn", text)), lambda text: logged.append(("info", text))
    )

    def look(state="active", adaptation="running", failed=False, restarting=False, **more):
        jobs = Counters(submitted=9, replaced=2)
        return diagnostics.statuses(Snapshot(state, adaptation, failed, restarting, 4, 10, jobs, {"left": 7}, **more))

    return look


def test_a_running_node_is_well(statistics, look):
    statistics.count("sweeps in")
    statistics.count("sweeps out")
    assert [(s.level, s.message) for s in look()] == [(DiagnosticStatus.OK, "active"), (DiagnosticStatus.OK, "running")]


def test_a_dropped_sweep_is_a_warning_until_the_next_look(statistics, look):
    statistics.count("sweeps in")
    statistics.count("sweeps dropped")
    first = look()[0]
    assert (first.level, first.message) == (DiagnosticStatus.WARN, "1 sweeps dropped")
    statistics.count("sweeps in")
    assert look()[0].level == DiagnosticStatus.OK


def test_an_active_node_without_sweeps_is_a_warning(look):
    assert (look()[0].level, look()[0].message) == (DiagnosticStatus.WARN, "active, but no sweep came")


def test_an_inactive_node_is_a_warning(look):
    assert (look("inactive")[0].level, look("inactive")[0].message) == (DiagnosticStatus.WARN, "inactive")


def test_rejected_steps_are_a_warning_with_their_reasons(statistics, look):
    statistics.add_step(StepReport(stamp=0, version=0, accepted=False, reason="the loss is not finite"))
    status = look()[1]
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "1 steps rejected")
    values = {pair.key: pair.value for pair in status.values}
    assert values["rejected: the loss is not finite"] == "1"
    assert (values["jobs"], values["replaced"], values["version"], values["images of left"]) == ("9", "2", "4", "7")


def test_rest_is_no_warning(statistics, look):
    statistics.add_step(StepReport(stamp=0, version=0, accepted=False, reason="enough learnt", skipped=True))
    status = look(adaptation="resting: enough learnt")[1]
    assert (status.level, status.message) == (DiagnosticStatus.OK, "resting: enough learnt")
    assert not any(pair.key.startswith("rejected:") for pair in status.values)


def test_adaptation_that_is_over_is_an_error_with_its_reason(look):
    status = look(adaptation="failed: it died, after 3 restarts", failed=True)[1]
    assert (status.level, status.message) == (DiagnosticStatus.ERROR, "failed: it died, after 3 restarts")


def test_adaptation_that_is_starting_again_is_a_warning_with_the_reason(look):
    status = look(adaptation="starting: it died", restarting=True)[1]
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "starting: it died")


def test_clouds_that_are_out_of_range_are_a_warning_for_as_long_as_they_come(statistics, look):
    for _ in range(3):
        statistics.count("sweeps in")
        status = look(problem="0.0 % of the points are in range: they look like millimetres")[0]
        assert status.level == DiagnosticStatus.WARN and "millimetres" in status.message
    statistics.count("sweeps in")
    assert look()[0].level == DiagnosticStatus.OK


@pytest.mark.parametrize(
    "adaptation",
    [
        f"{STARVING}: a step is due on every 320 sweeps instead of 5",
        f"{GUARD_PAUSE}: alignment 0.001, 0.002 on average",
        f"{GUARD_PAUSE}: cosine 0.1 on held-out points",
    ],
)
def test_adaptation_that_is_held_up_is_a_steady_warning_and_logged_at_the_change(look, logged, adaptation):
    for _ in range(3):
        status = look(adaptation=adaptation)[1]
        assert status.level == DiagnosticStatus.WARN and status.message.startswith(adaptation)
    assert look()[1].level == DiagnosticStatus.OK
    assert [(level, text.startswith(f"adaptation: {adaptation}")) for level, text in logged] == [
        ("warn", True), ("info", False)
    ]


def test_a_starved_adaptation_tells_how_many_steps_it_got(statistics, look):
    for _ in range(2):
        statistics.add_step(StepReport(stamp=0, version=1, accepted=True))
    assert look(adaptation=f"{STARVING}: of sweeps")[1].message == f"{STARVING}: of sweeps (2 steps in the last minute)"


def test_steps_that_are_all_refused_are_a_steady_warning_and_logged_once(statistics, look, logged):
    for number in range(MIN_STEPS + 3):
        statistics.add_step(StepReport(stamp=0, version=0, accepted=False, reason=f"image {number} s late"))
        look()
    status = look()[1]  # without another step in between
    message = f"{MIN_STEPS + 3} of {MIN_STEPS + 3} steps were refused: image {MIN_STEPS + 2} s late"
    assert (status.level, status.message) == (DiagnosticStatus.WARN, message)
    assert logged == [("warn", f"adaptation: {MIN_STEPS} of {MIN_STEPS} steps were refused: image {MIN_STEPS - 1} s late")]
def test_steps_that_fail_in_a_row_are_a_warning_that_stays(statistics, look):
    reason = "failing: the last 4 steps failed: OSError: cut short"
    statistics.add_step(StepReport(stamp=0, version=0, accepted=False, reason="OSError: cut short"))
    for _ in range(3):
        status = look(adaptation=reason, failing=True)[1]
        assert (status.level, status.message) == (DiagnosticStatus.WARN, reason)


def test_sweeps_that_get_no_answer_in_a_row_are_a_warning_that_stays(statistics, look):
    trouble = "the last 5 sweeps got no answer: RuntimeError: out of memory"
    for _ in range(3):
        statistics.count("sweeps in")
        status = look(trouble=trouble)[0]
        assert (status.level, status.message) == (DiagnosticStatus.WARN, trouble)
    statistics.count("sweeps in")
    assert look()[0].level == DiagnosticStatus.OK
@pytest.mark.parametrize(
    ("topic", "level", "message"),
    [(TopicStatus("/points", 3, 0, ""), DiagnosticStatus.OK, "all topics bring messages"),
     (TopicStatus("/points", 0, 0, "nothing comes"), DiagnosticStatus.WARN, "/points: nothing comes"),
     (TopicStatus("/points", 3, 2, ""), DiagnosticStatus.WARN, "/points: 2 messages lost on the way")],
)
def test_a_topic_that_is_silent_or_loses_messages_is_a_warning(statistics, topic, level, message):
    diagnostics = Diagnostics("segmenter", statistics)
    (status,) = diagnostics.statuses(Snapshot("active", inputs=(topic,)))[2:]
    assert (status.level, status.message) == (level, message)
    assert {pair.key: pair.value for pair in status.values} == {
        "/points received": str(topic.received), "/points lost": str(topic.lost)
    }


def test_losses_are_a_warning_until_the_next_look(statistics):
    diagnostics = Diagnostics("segmenter", statistics)
    looks = [diagnostics.statuses(Snapshot("active", inputs=(TopicStatus("/points", 3, 2, ""),)))[2] for _ in range(2)]
    assert [status.level for status in looks] == [DiagnosticStatus.WARN, DiagnosticStatus.OK]
