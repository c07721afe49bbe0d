"""Child processes that always come to an end, and say why when they end badly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 30.0  # seconds for a process to end after a signal, before the next, stronger one
_TAIL = 25  # lines of a log shown with a failure


class ChildError(RuntimeError):
    """A child process failed; the message holds the end of its log."""


class Child:
    """One `python -m module` process with its output in a log file; a context manager that ends it.

    It runs in a session of its own, so that Ctrl-C reaches the parent alone, which then ends its children in order.
    """

    def __init__(self, module: str, arguments: Sequence[object], log: Path, *, domain: int, threads: int | None = 1):
        self.name = module.rsplit(".", 1)[-1]
        self._log = log
        environment = os.environ | {
            "ROS_DOMAIN_ID": str(domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "PYTHONUNBUFFERED": "1",
        }
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with log.open("w", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *map(str, arguments)],
                stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,
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

    def wait(self, timeout: float) -> None:
        """Until it ends by itself. Raises ChildError where it fails or takes longer than `timeout` seconds."""
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.error(f"has not ended after {timeout:g} s") from None
        if code != 0:
            raise self.error(f"ended with code {code}")

    def wait_for(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Until `condition` holds. Raises ChildError where the process ends before, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running:
                raise self.error(f"ended with code {self._process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self.error(f"not {what} after {timeout:g} s")
            time.sleep(0.05)

    def end(self) -> int:
        """Interrupt it, then terminate it, then kill it, whichever it takes; its exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            os.killpg(self._process.pid, number)
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                continue
        return self._process.wait()

    def error(self, what: str) -> ChildError:
        tail = "\n".join(f"  {line}" for line in self.output().splitlines()[-_TAIL:])
        return ChildError(f"{self.name} {what}; the end of {self._log}:\n{tail or '  (empty)'}")


@contextmanager
def interruptible() -> Iterator[None]:
    """Within: SIGTERM, and the SIGHUP of a terminal that goes away, end the work as Ctrl-C does, so that children are
    ended then, too. Under `nohup` SIGHUP is not listened to."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    listened = [asked for asked in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(asked) is not signal.SIG_IGN]
    before = {asked: signal.signal(asked, interrupt) for asked in listened}
    try:
        yield
    finally:
        for asked, handler in before.items():
            signal.signal(asked, handler)
