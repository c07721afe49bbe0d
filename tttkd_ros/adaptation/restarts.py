"""How often an adapter that dies may be replaced."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_RESTARTS = 3  # in a row
SECONDS_PER_RESTART = 600.0


class RestartBudget:
    """Allows `maximum` restarts in a row. Each `seconds_per_restart` without a death earns one back. For one thread."""

    def __init__(
        self,
        maximum: int = MAX_RESTARTS,
        seconds_per_restart: float = SECONDS_PER_RESTART,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.maximum = maximum
        self._seconds_per_restart = seconds_per_restart
        self._clock = clock
        self._left = maximum
        self._counted_from = clock()  # the last death or restart

    def take(self) -> bool:
        """Record a death. Return whether another adapter may start at once."""
        now = self._clock()
        self._left = min(self._left + (now - self._counted_from) // self._seconds_per_restart, self.maximum)
        self._counted_from = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def wait_s(self) -> float:
        """Seconds until the next restart is earned, if no adapter dies until then."""
        return max(self._counted_from + self._seconds_per_restart - self._clock(), 0.0)

    def spend(self) -> None:
        """Record the restart that was waited for."""
        self._counted_from = self._clock()

    def refill(self) -> None:
        """Allow all restarts again."""
        self._left, self._counted_from = self.maximum, self._clock()
