from __future__ import annotations

import logging

import pytest

rclpy = pytest.importorskip("rclpy")

from tttkd_ros.ros.logs import Repeats, err, warn  # noqa: E402
from tttkd_ros.ros.throttled_log import KINDS, Throttle, ThrottledLog  # noqa: E402


@pytest.fixture
def said():
    return []


@pytest.fixture
def time():
    return [0.0]


@pytest.fixture
def warnings_log(said, time):
    return ThrottledLog(said.append, every_s=10.0, clock=lambda: time[0])


def test_a_kind_is_said_once_and_its_repetitions_are_counted(warnings_log, said, time):
    for second in range(10):
        time[0] = second
        warnings_log.warn("points", f"{second} bytes short")
    assert said == ["points: 0 bytes short"]
    time[0] = 10.0
    warnings_log.warn("points", "3 bytes short")
    assert said[1:] == ["points: 3 bytes short (9 more like it since it was last said)"]


def test_another_kind_and_another_source_are_said_at_once(warnings_log, said):
    warnings_log.warn("points", "too short")
    warnings_log.warn("points", "no x")
    warnings_log.warn("camera", "too short")
    assert said == ["points: too short", "points: no x", "camera: too short"]


def test_ever_new_kinds_do_not_fill_the_memory(warnings_log):
    for number in range(3 * KINDS):
        warnings_log.warn("points", f"field {chr(0x4E00 + number)}")
    assert len(warnings_log._throttle._seen) <= KINDS


@pytest.mark.parametrize("error", [OSError("no driver"), RuntimeError("out of memory"), ZeroDivisionError()])
def test_a_failure_has_its_traceback_the_first_time_and_is_one_line_with_a_count_later(warnings_log, said, time, error):
    def fail():
        raise error

    for second in (*range(8), 10):
        time[0] = second
        try:
            fail()
        except Exception as raised:
            warnings_log.failed(f"sweep at {second}", raised)
    first, later = said
    what = f"failed: {type(error).__name__}: {error}"
    assert first.startswith(f"sweep at 0 {what}\nTraceback") and "in fail" in first
    assert later == f"sweep at 10 {what} (7 more like it since it was last said)"


def test_warnings_and_errors_may_be_of_one_logger_though_rclpy_refuses_a_call_site_of_two_severities(capfd):
    logger = rclpy.logging.get_logger("warnings_log")
    for log in (warn, err, warn):
        ThrottledLog(log(logger)).warn("points", "too short")
    told = capfd.readouterr().err
    assert (told.count("[WARN]"), told.count("[ERROR]")) == (2, 1)


@pytest.fixture
def logged():
    """Of a logger with the filter: the records' texts, tracebacks included."""
    texts = []

    class Handler(logging.Handler):
        def emit(self, record):
            texts.append(self.format(record))

    logger, handler = logging.Logger("core"), Handler()
    handler.addFilter(Repeats())
    logger.addHandler(handler)
    return logger, texts


def test_the_cores_log_says_a_repeated_failure_once_and_counts_the_rest(logged, monkeypatch):
    logger, texts = logged
    now = [0.0]
    monkeypatch.setattr(logger.handlers[0].filters[0], "_throttle", Throttle(clock=lambda: now[0]))
    for stamp in range(5):
        now[0] = 10.0 * (stamp == 4)
        try:
            raise OSError("the image is cut short")
        except OSError:
            logger.exception("the step for the sweep at %d ns failed", stamp)
    assert texts[0].startswith("the step for the sweep at 0 ns failed\nTraceback")
    assert texts[1:] == ["the step for the sweep at 4 ns failed: OSError: the image is cut short "
                         "(3 more like it since it was last said)"]


def test_the_cores_log_says_all_that_is_no_warning_and_every_kind_of_warning(logged):
    logger, texts = logged
    for _ in range(2):
        logger.info("ready")
        logger.warning("no engine")
        logger.error("no engine, and no teacher")
    assert texts == ["ready", "no engine", "no engine, and no teacher", "ready"]
