"""Warnings about what other nodes send: each kind at once, its repetitions seldom and counted."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

KINDS = 256  # a sender of ever new errors must not fill the memory


class Complaints:
    """Safe to use from several threads. log: for a logger of rclpy's, of `logs.warn` or `logs.err`."""

    def __init__(
        self, log: Callable[[str], object], *, every_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ):
        self._log = log
        self._every_s = every_s
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # kind -> when last said, how many unsaid since
        self._lock = threading.Lock()

    def about(self, source: str, problem: object) -> None:
        """Two problems of one source are of a kind where they differ in numbers only."""
        kind = re.sub(r"[-+]?\d[\d.]*", "#", f"{source}: {problem}")
        now = self._clock()
        with self._lock:
            said, unsaid = self._seen.get(kind, (None, 0))
            if said is not None and now - said < self._every_s:
                self._seen[kind] = (said, unsaid + 1)
                return
            if said is None and len(self._seen) >= KINDS:
                self._seen.clear()
            self._seen[kind] = (now, 0)
        again = f" ({unsaid} more like it since it was last said)" if unsaid else ""
        self._log(f"{source}: {problem}{again}")
