"""Warnings that repeat themselves: each kind at once, its repetitions seldom and counted."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections.abc import Callable
from typing import NamedTuple

KINDS = 256  # a sender of ever new errors must not fill the memory
EVERY_S = 10.0


class Turn(NamedTuple):
    """A message may be logged. first: none of its kind was before. unsaid: how many were not since the last one."""

    first: bool
    unsaid: int

    def __str__(self) -> str:
        return f" ({self.unsaid} more like it since it was last said)" if self.unsaid else ""


class Throttle:
    """Lets one message of each kind through in `every_s` seconds. Safe to use from several threads."""

    def __init__(self, *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic):
        self._every_s = every_s
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # kind -> when last said, how many unsaid since
        self._lock = threading.Lock()

    def __call__(self, text: str) -> Turn | None:
        """None if the message is to be left out. Two texts are of a kind if they differ in numbers only."""
        kind = re.sub(r"[-+]?\d[\d.]*", "#", text)
        now = self._clock()
        with self._lock:
            said, unsaid = self._seen.get(kind, (None, 0))
            if said is not None and now - said < self._every_s:
                self._seen[kind] = (said, unsaid + 1)
                return None
            if said is None and len(self._seen) >= KINDS:
                self._seen.clear()
            self._seen[kind] = (now, 0)
        return Turn(said is None, unsaid)


class ThrottledLog:
    """Safe to use from several threads. log: for a logger of rclpy's, of `logs.warn` or `logs.err`."""

    def __init__(
        self, log: Callable[[str], object], *, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic
    ):
        self._log = log
        self._throttle = Throttle(every_s=every_s, clock=clock)

    def warn(self, source: str, problem: object) -> None:
        """Two problems of one source are of a kind where they differ in numbers only."""
        text = f"{source}: {problem}"
        if turn := self._throttle(text):
            self._log(f"{text}{turn}")

    def failed(self, source: str, error: BaseException) -> None:
        """An exception that nobody expected: with its traceback the first time, in one line after that."""
        text = f"{source} failed: {type(error).__name__}: {error}"
        if turn := self._throttle(text):
            trace = "\n" + "".join(traceback.format_exception(error)).rstrip() if turn.first else ""
            self._log(f"{text}{turn}{trace}")
