"""The end of a thread."""

from __future__ import annotations

import logging
import threading

log = logging.getLogger(__name__)

PATIENCE_S = 10.0


def join(thread: threading.Thread, patience_s: float = PATIENCE_S) -> None:
    """Wait for a thread that was told to end. One that does not is left behind, with an error in the log: nothing can
    end it, and to wait on would only hang the caller, too. It has to be a daemon, so as not to outlive the process."""
    thread.join(patience_s)
    if thread.is_alive():
        log.error("the thread %r did not end within %g s and is left behind", thread.name, patience_s)
