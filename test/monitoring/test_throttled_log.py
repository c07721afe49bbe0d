from __future__ import annotations

import logging

import pytest

from tttkd_ros.monitoring.throttled_log import MAX_KINDS, RosHandler, ThrottledLog, error_with, warn_with


@pytest.fixture
def written():
    return []


@pytest.fixture
def time():
    return [0.0]


@pytest.fixture
def warnings(written, time):
    return ThrottledLog(written.append, clock=lambda: time[0])


def test_repetitions_of_a_kind_are_left_out_and_counted(warnings, written, time):
    for second in range(10):
        time[0] = second
        warnings.warn("points", f"{second} bytes short")
    assert written == ["points: 0 bytes short"]
    time[0] = 10.0
    warnings.warn("points", "3 bytes short")
    assert written[1:] == ["points: 3 bytes short (9 more like it since the last one)"]


def test_another_kind_and_another_source_are_written_at_once(warnings, written):
    warnings.warn("points", "too short")
    warnings.warn("points", "no x")
    warnings.warn("camera", "too short")
    assert written == ["points: too short", "points: no x", "camera: too short"]


def test_ever_new_kinds_do_not_fill_the_memory(warnings):
    for number in range(3 * MAX_KINDS):
        warnings.warn("points", f"field {chr(0x4E00 + number)}")
    assert len(warnings._seen) <= MAX_KINDS


@pytest.mark.parametrize("error", [OSError("no driver"), RuntimeError("out of memory"), ZeroDivisionError()])
def test_an_exception_has_its_traceback_the_first_time_only(warnings, written, time, error):
    def fail():
        raise error

    for second in (*range(8), 10):
        time[0] = second
        try:
            fail()
        except Exception as raised:
            warnings.failed(f"sweep at {second}", raised)
    first, later = written
    what = f"failed: {type(error).__name__}: {error}"
    assert first.startswith(f"sweep at 0 {what}\nTraceback") and "in fail" in first
    assert later == f"sweep at 10 {what} (7 more like it since the last one)"


def test_one_logger_of_rclpy_takes_warnings_and_errors(capfd):
    logger = pytest.importorskip("rclpy.logging").get_logger("throttled")
    for log in (warn_with, error_with, warn_with):
        ThrottledLog(log(logger)).warn("points", "too short")
    output = capfd.readouterr().err
    assert (output.count("[WARN]"), output.count("[ERROR]")) == (2, 1)


@pytest.fixture
def core_log(written):
    """A logger of Python's logging that is forwarded to a stand-in for rclpy's."""

    class Logger:
        def info(self, text):
            written.append(("info", text))

        def warning(self, text):
            written.append(("warning", text))

        def error(self, text):
            written.append(("error", text))

    logger = logging.Logger("core")
    logger.addHandler(RosHandler(Logger()))
    return logger


def test_the_core_s_warnings_and_errors_are_throttled_and_the_rest_is_not(core_log, written):
    for number in range(2):
        core_log.info("ready")
        core_log.warning("no engine")
        try:
            raise OSError("the image is cut short")
        except OSError:
            core_log.exception("the step for the sweep at %d ns failed", number)
    *texts, (level, error), last = written
    assert (texts, last) == ([("info", "ready"), ("warning", "no engine")], ("info", "ready"))
    assert level == "error"
    assert error.startswith("the step for the sweep at 0 ns failed: OSError: the image is cut short\nTraceback")
