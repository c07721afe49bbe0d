"""Logs that repeat themselves: the first message of a kind at once, its repetitions counted and seldom."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable

from tttkd_ros.diagnosis import kind_of

MAX_KINDS = 256  # a sender of ever new errors must not fill the memory
INTERVAL_S = 10.0


class ThrottledLog:
    """Logs one message of each kind per `INTERVAL_S`. Messages that differ only in numbers are of one kind.

    Safe to use from several threads. `log` writes a text; for a logger of rclpy use `warn_with` or `error_with`.
    """

    def __init__(self, log: Callable[[str], object], *, clock: Callable[[], float] = time.monotonic):
        self._log = log
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # kind -> time of the last message, how many were left out since
        self._lock = threading.Lock()

    def warn(self, source: str, problem: object) -> None:
        """Log a problem of a source, such as a topic."""
        self.write(f"{source}: {problem}")

    def failed(self, source: str, error: BaseException) -> None:
        """Log an unexpected exception."""
        self.write(f"{source} failed", error)

    def write(self, text: str, error: BaseException | None = None) -> None:
        """Log a text and an exception, which has its traceback the first time and one line later."""
        if error is not None:
            text = f"{text}: {type(error).__name__}: {error}"
        kind = kind_of(text)
        now = self._clock()
        with self._lock:
            if len(self._seen) >= MAX_KINDS and kind not in self._seen:
                self._seen.clear()
            last, left_out = self._seen.get(kind, (None, 0))
            if last is not None and now - last < INTERVAL_S:
                self._seen[kind] = (last, left_out + 1)
                return
            self._seen[kind] = (now, 0)
        if left_out:
            text += f" ({left_out} more like it since the last one)"
        if error is not None and last is None:
            text += "\n" + "".join(traceback.format_exception(error)).rstrip()
        self._log(text)


class RosHandler(logging.Handler):
    """Sends records of Python's logging to a logger of rclpy; warnings and errors are throttled."""

    def __init__(self, logger):
        super().__init__()
        self._info = logger.info
        self._warnings = ThrottledLog(warn_with(logger))
        self._errors = ThrottledLog(error_with(logger))

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            self._info(record.getMessage())
            return
        log = self._errors if record.levelno >= logging.ERROR else self._warnings
        log.write(record.getMessage(), record.exc_info[1] if record.exc_info else None)


def forward_to_ros(logger) -> None:
    """Send what this package logs, from INFO on, to a logger of rclpy and nowhere else."""
    package = logging.getLogger("tttkd_ros")
    package.handlers = [RosHandler(logger)]
    package.setLevel(logging.INFO)
    package.propagate = False


# rclpy refuses a call site that changes its severity, so each severity needs a call site of its own.


def warn_with(logger) -> Callable[[str], None]:
    return lambda text: logger.warning(text)


def error_with(logger) -> Callable[[str], None]:
    return lambda text: logger.error(text)
