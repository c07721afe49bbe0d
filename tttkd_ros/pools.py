"""Processes beside this one."""

from __future__ import annotations

import os
import signal
import sys


def same_imports() -> dict[str, str]:
    """Environment of another interpreter that finds modules where this one does. PYTHONSAFEPATH (CPython 3.11) keeps it
    from looking in the working directory first, where any file may have a module's name."""
    return {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}


def start_worker() -> None:
    """One of those that share the work of a command: one thread; Ctrl-C is the parent's business, which ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
