"""The core's log, which knows no ROS, told to ROS: on the screen, in the log files and on /rosout."""

from __future__ import annotations

import logging
from collections.abc import Callable


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


def warn(logger) -> Callable[[str], None]:
    """rclpy's `logger.warning`, for somebody who is also handed other severities: with a call site of its own."""
    return lambda text: logger.warning(text)


def err(logger) -> Callable[[str], None]:
    """As `warn`, `logger.error`."""
    return lambda text: logger.error(text)


def forward(logger) -> None:
    """Send what the package logs, from INFO on, to rclpy's `logger` and nowhere else."""
    package = logging.getLogger("tttkd_ros")
    package.handlers = [ToRos(logger)]
    package.setLevel(logging.INFO)
    package.propagate = False
