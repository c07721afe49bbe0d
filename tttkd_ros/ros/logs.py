"""The core's log, which knows no ROS, told to ROS: on the screen, in the log files and on /rosout."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tttkd_ros.ros.throttled_log import Throttle


class ToRos(logging.Handler):
    """logger: rclpy's. One call per severity: rclpy refuses a call site that changes its severity."""

    def __init__(self, logger):
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


class Repeats(logging.Filter):
    """Lets warnings and errors through as `ThrottledLog` does: a traceback the first time, one line and a count later."""

    def __init__(self):
        super().__init__()
        self._throttle = Throttle()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage() + (f": {type(error).__name__}: {error}" if error is not None else "")
        turn = self._throttle(f"{record.name}: {text}")
        if turn and not turn.first:
            record.msg, record.args, record.exc_info, record.exc_text = f"{text}{turn}", None, None, None
        return turn is not None


def warn(logger) -> Callable[[str], None]:
    """rclpy's `logger.warning`, for somebody who is also handed other severities: with a call site of its own."""
    return lambda text: logger.warning(text)


def err(logger) -> Callable[[str], None]:
    """As `warn`, `logger.error`."""
    return lambda text: logger.error(text)


def forward(logger) -> None:
    """Send what the package logs, from INFO on, to rclpy's `logger` and nowhere else."""
    package = logging.getLogger("tttkd_ros")
    handler = ToRos(logger)
    handler.addFilter(Repeats())
    package.handlers = [handler]
    package.setLevel(logging.INFO)
    package.propagate = False
