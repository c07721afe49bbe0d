"""Runs a build that takes minutes in another process.

In a thread the build would hold the interpreter lock, which predictions need. Nothing could abort it, and a crash of a
compiler or a lack of memory would end the node.
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

PROGRESS_INTERVAL_S = 10.0


class BuildStopped(Exception):
    """A build was aborted because nobody needs its result any more."""


def build_apart(build: Callable[[], object], stop: threading.Event) -> None:
    """Call a picklable `build`, whose result is on disk, in another process, which ends with this one. Wait for it.

    Raises RuntimeError if the build failed; its own error is on stderr. Raises BuildStopped if `stop` is set before.
    """
    pickled = pickle.dumps(build)
    start = time.monotonic()
    logged = 0
    with start_python("-c", f"from {__name__} import serve; serve()", stdin=subprocess.PIPE) as child:
        try:
            child.stdin.write(pickled)
            child.stdin.flush()
            while child.poll() is None:
                if stop.wait(0.1):
                    raise BuildStopped
                elapsed = time.monotonic() - start
                if elapsed // PROGRESS_INTERVAL_S > logged:
                    logged = elapsed // PROGRESS_INTERVAL_S
                    log.info("still building: %.0f s so far", elapsed)
        finally:
            child.kill()
    if child.returncode:
        raise RuntimeError(f"its build ended with exit status {child.returncode}; the error is above, on stderr")


def serve() -> None:
    """Run the build that arrives on stdin. This is the main function of the other process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a service manager sends them to all processes of the service
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to end
    build = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    build()


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # returns once the parent has closed the pipe
    os._exit(1)
