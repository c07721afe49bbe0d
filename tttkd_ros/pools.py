"""Processes that share the work of one command."""

from __future__ import annotations

import os
import signal


def start_worker() -> None:
    """One thread each; Ctrl-C is the parent's business, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
