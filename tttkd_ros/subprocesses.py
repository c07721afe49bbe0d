"""Other Python processes: a new interpreter, and the workers of a pool."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping


def start_python(*arguments: str, environment: Mapping[str, str] | None = None, **options) -> subprocess.Popen:
    """Start another Python interpreter that finds modules where this one does. environment: additional variables.

    It gets a session of its own, so Ctrl-C in a terminal reaches this process alone, which has to end it.
    """
    # PYTHONSAFEPATH (CPython 3.11) keeps modules of the working directory from hiding installed ones.
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    environment = {**os.environ, **paths, **(environment or {})}
    return subprocess.Popen([sys.executable, *arguments], env=environment, start_new_session=True, **options)


def init_pool_worker() -> None:
    """Initializer of a process pool: one computing thread, and Ctrl-C is left to the parent, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
