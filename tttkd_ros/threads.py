"""Waiting for a thread to end."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0


def join(thread: threading.Thread, timeout_s: float = TIMEOUT_S) -> None:
    """Wait for a thread that was asked to end, and log an error if it does not.

    Nothing can end a stuck thread, and waiting longer would block the caller too. It must be a daemon thread, or it
    would keep the process alive.
    """
    thread.join(timeout_s)
    if thread.is_alive():
        log.error("the thread %r did not end within %g s and is left behind", thread.name, timeout_s)
