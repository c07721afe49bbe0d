"""Processes beside this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def interpreter(*arguments: str, **options) -> subprocess.Popen:
    """Another interpreter, which finds modules where this one does, and whose end is this one's business: it hears
    nothing of the Ctrl-C that a terminal tells this one and its group. options: as Popen takes them."""
    # PYTHONSAFEPATH (CPython 3.11): not in the working directory first, where any file may have a module's name.
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    return subprocess.Popen([sys.executable, *arguments], env=os.environ | paths, start_new_session=True, **options)


def start_worker() -> None:
    """One of those that share the work of a command: one thread; Ctrl-C is the parent's business, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
