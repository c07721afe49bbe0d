"""The checks pass for a good run and fail for each kind of bad run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from . import verdict
from .processes import Sample
from .verdict import Entry

GOOD = {"in": 10, "out": 6, "dropped": 3, "undecodable": 1, "failed": 0, "let pass": 4}
ENTRIES = [Entry(float(second), 1) for second in range(14)] + [Entry(20.0, 0)]  # the last without a subscriber
SAMPLES = [Sample(float(at), 200.0, 200.0, 20, 20) for at in range(100)]


def failing(checks) -> list[str]:
    return [check.what for check in checks if not check.passed]


def test_when_all_is_counted_all_checks_pass():
    assert failing(verdict.accounting(GOOD, 6, ENTRIES, [])) == []


@pytest.mark.parametrize(
    ("what", "change"),
    [("out", -1), ("dropped", -1), ("undecodable", 1), ("let pass", -1), ("let pass", 1), ("in", 1), ("failed", 1)],
)
def test_a_sweep_that_is_not_counted_or_counted_twice_fails_a_check(what, change):
    assert failing(verdict.accounting(GOOD | {what: GOOD[what] + change}, 6, ENTRIES, []))


@pytest.mark.parametrize("answers", [5, 7])
def test_an_answer_too_few_or_too_many_fails_a_check(answers):
    assert failing(verdict.accounting(GOOD, answers, ENTRIES, [])) == ["every answer arrives"]


def test_sweeps_may_be_lost_only_while_the_node_has_no_subscription():
    lost = GOOD | {"let pass": 2}
    assert failing(verdict.accounting(lost, 6, ENTRIES, [(5.0, 6.0)])) == []
    assert failing(verdict.accounting(lost, 6, ENTRIES, [(30.0, 31.0)])) == [
        "sent = in + let pass + lost with the subscription"
    ]


def test_silence_is_excused_by_a_transition_only():
    came = [0.0, 1.0, 2.0, 10.0, 11.0]
    assert verdict.diagnostics(came, [(3.0, 9.0)]).passed
    assert not verdict.diagnostics(came, [(11.0, 12.0)]).passed


@pytest.mark.parametrize("what", ["node_mib", "child_mib", "threads", "files"])
def test_growth_over_the_run_fails_a_check(what):
    grown = [replace(at, **{what: getattr(at, what) * (1 + number / 100)}) for number, at in enumerate(SAMPLES)]
    assert failing(verdict.flatness(SAMPLES)) == []
    assert failing(verdict.flatness(grown))


def test_growth_while_warming_up_is_none():
    warming = [replace(at, node_mib=100.0 if number < 20 else 200.0) for number, at in enumerate(SAMPLES)]
    assert failing(verdict.flatness(warming)) == []


@pytest.mark.parametrize("line", ["Traceback (most recent call last):", "[FATAL] [1] [segmenter]: cannot configure"])
def test_an_exception_in_the_log_fails(line):
    assert verdict.log("[WARN] dropped\n[ERROR] refused\n").passed
    assert not verdict.log(f"[WARN] dropped\n{line}\n").passed
