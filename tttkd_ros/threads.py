"""Waiting for a thread to end."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0


def join(thread: threading.Thread, timeout_s: float = TIMEOUT_S) -> None:
    """Wait for a daemon thread that was asked to end. Log an error if it does not, because nothing can end it."""
    thread.join(timeout_s)
    if thread.is_alive():
        log.error("the thread %r did not end within %g s and is left behind", thread.name, timeout_s)
