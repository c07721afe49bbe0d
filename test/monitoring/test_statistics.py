from __future__ import annotations

from dataclasses import replace

import pytest

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.monitoring.statistics import MAX_REASONS, MIN_STEPS, STEP_WINDOW, SWEEP_WINDOW, Statistics


def test_reasons_that_differ_in_numbers_are_counted_together():
    statistics = Statistics()
    for number in (3, 12):
        reason = f"{number} points in view of a camera, expected 32"
        statistics.add_step(StepReport(stamp=0, version=0, accepted=False, reason=reason))
    statistics.add_step(StepReport(stamp=0, version=1, accepted=True))
    assert statistics.rejections() == {"rejected: # points in view of a camera, expected #": 2}
    assert (statistics.counts()["accepted"], statistics.counts()["rejected"]) == (1, 2)


def test_ever_new_reasons_are_counted_as_others():
    statistics = Statistics()
    for number in range(MAX_REASONS + 5):
        statistics.add_step(StepReport(stamp=0, version=0, accepted=False, reason=chr(0x4E00 + number)))
    assert statistics.rejections()["rejected: other"] == 5


def test_percentiles_look_back_on_the_window_only():
    statistics = Statistics()
    for _ in range(SWEEP_WINDOW):
        statistics.add_times({"latency": 9.0})
    for number in range(1, SWEEP_WINDOW + 1):
        statistics.add_times({"latency": number / SWEEP_WINDOW, "decode": 0.002})
    figures = statistics.times_ms()
    assert figures["decode p50 ms"] == pytest.approx(2)
    assert figures["latency p50 ms"] == pytest.approx(500, rel=0.01)
    assert figures["latency p95 ms"] == pytest.approx(950, rel=0.01)
    assert figures["latency p99 ms"] == pytest.approx(990, rel=0.01)


def test_without_a_sweep_there_are_no_figures():
    assert Statistics().times_ms() == {}


def test_nearly_all_of_the_last_steps_refused_are_told_once_there_are_a_few():
    statistics, refused = Statistics(), StepReport(stamp=0, version=0, accepted=False, reason="no camera image")
    for _ in range(MIN_STEPS - 1):
        statistics.add_step(refused)
    assert statistics.refusals() == ""
    statistics.add_step(refused)
    assert statistics.refusals() == f"{MIN_STEPS} of {MIN_STEPS} steps were refused: no camera image"
    for _ in range(STEP_WINDOW // 2):
        statistics.add_step(replace(refused, accepted=True, reason=""))
    assert statistics.refusals() == ""


def test_steps_are_counted_over_the_last_minute():
    now = [0.0]
    statistics = Statistics(clock=lambda: now[0])
    for now[0] in (0, 30, 90):
        statistics.add_step(StepReport(stamp=0, version=1, accepted=True))
    assert statistics.steps_in_last_minute() == 2
    now[0] = 200
    assert statistics.steps_in_last_minute() == 0
