"""Child processes that are always ended, and whose log is shown if they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tttkd_ros.subprocesses import start_python

_SIGNAL_TIMEOUT_S = 30.0  # for a process to end after a signal, before the next, stronger one
_LOG_LINES = 25  # shown with a failure


class ChildError(RuntimeError):
    """A child process failed. The message has the end of its log."""


class Child:
    """A `python -m module` process with its output in a log file. As a context manager it ends the process.

    domain: of ROS. threads: number of computing threads; None for the default.
    """

    def __init__(self, module: str, arguments: Sequence[object], log: Path, *, domain: int, threads: int | None = 1):
        self.name = module.rsplit(".", 1)[-1]
        self._log = log
        environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
                       "PYTHONUNBUFFERED": "1"}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with log.open("w", encoding="utf-8") as output:
            self._process = start_python(
                "-m", module, *map(str, arguments), environment=environment, stdout=output,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_) -> None:
        self.end()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def require_success(self) -> None:
        """Raise ChildError if it has ended with an error."""
        if code := self._process.poll():
            raise self.error(f"ended with code {code}")

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Wait until a condition holds. Raises ChildError if the process ends first, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running:
                raise self.error(f"ended with code {self._process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self.error(f"not {what} after {timeout:g} s")
            time.sleep(0.05)

    def end(self) -> int:
        """Interrupt the process, terminate it or kill it, as necessary. Returns its exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(_SIGNAL_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue
        return self._process.wait()

    def error(self, what: str) -> ChildError:
        """An error that says what happened and quotes the log."""
        tail = "\n".join(f"  {line}" for line in self.output().splitlines()[-_LOG_LINES:])
        return ChildError(f"{self.name} {what}; the end of {self._log}:\n{tail or '  (empty)'}")
