"""Other Python processes: a new interpreter, the workers of a pool, and how they end with this one."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import parent_process

PR_SET_PDEATHSIG = 1  # of Linux's prctl


def start_python(*arguments: str, environment: Mapping[str, str] | None = None, **options) -> subprocess.Popen:
    """Start another Python interpreter that finds modules where this one does. environment: additional variables.

    It gets a session of its own, so Ctrl-C in a terminal reaches this process alone, which has to end it.
    """
    # PYTHONSAFEPATH (CPython 3.11) keeps modules of the working directory from hiding installed ones.
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    environment = {**os.environ, **paths, **(environment or {})}
    return subprocess.Popen([sys.executable, *arguments], env=environment, start_new_session=True, **options)


def init_pool_worker() -> None:
    """Initializer of a process pool: one computing thread, and Ctrl-C is left to the parent, which ends the workers.

    They also end if the parent is killed. Those of a Ray cluster, which have no parent here, are left to Ray.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := parent_process()) is not None:
        end_with(parent.pid)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


def end_with(parent: int) -> None:
    """Have the system kill this process when its parent, of this process id, ends. Linux only.

    The signal also comes if only the parent's thread ends that started this process.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before that
        signal.raise_signal(signal.SIGKILL)


@contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM and SIGHUP (a closed terminal) act like Ctrl-C, so that children are ended too. Ignored stays."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
