"""A build of minutes in a process of its own.

In a thread it would hold the interpreter lock that predictions need for much of that time, nothing could end it before
it is done, and a crash in a compiler or a lack of memory would end the node.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from tttkd_ros.subprocesses import start_python

log = logging.getLogger(__name__)

PROGRESS_S = 10.0  # between two lines in the log


class BuildStopped(Exception):
    """Nobody waits for the build any more."""


def build_apart(
    build: Callable[[], object], stop: threading.Event | None = None, *, progress_s: float = PROGRESS_S
) -> None:
    """Call `build` in a process of its own, which ends with this one; return when it is done.

    build: picklable; its effect is what it leaves on disk. Raises RuntimeError where it fails, with what it had to say
    on stderr, and BuildStopped once `stop` is set.
    """
    order = pickle.dumps(build)
    stop = stop or threading.Event()
    start = time.monotonic()
    told = 0
    with start_python("-c", f"from {__name__} import serve; serve()", stdin=subprocess.PIPE) as child:
        try:
            child.stdin.write(order)
            child.stdin.flush()
            while child.poll() is None:
                if stop.wait(0.1):
                    raise BuildStopped
                elapsed = time.monotonic() - start
                if elapsed // progress_s > told:
                    told = elapsed // progress_s
                    log.info("still building: %.0f s so far", elapsed)
        finally:
            child.kill()
    if child.returncode:
        raise RuntimeError(f"its build ended with exit status {child.returncode}; what it said is above")


def serve() -> None:
    """The other process: do what comes on stdin."""
    for asked in (signal.SIGINT, signal.SIGTERM):  # by a service manager, of all that belong to the service
        signal.signal(asked, signal.SIG_IGN)  # the parent says when to end
    order = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    order()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns once the other end is closed
    os._exit(1)
