"""How often an adapter that dies may be replaced."""

from __future__ import annotations

import time
from collections.abc import Callable

RESTARTS = 3  # in a row
EARNED_S = 600.0  # without a death, for one more


class RestartBudget:
    """At most `most` restarts in a row; each `earned_s` seconds without a death earn one back. For one thread."""

    def __init__(
        self, most: int = RESTARTS, earned_s: float = EARNED_S, clock: Callable[[], float] = time.monotonic
    ):
        self.most = most
        self._earned_s = earned_s
        self._clock = clock
        self._left = most
        self._died = clock()  # or the last time that something else was counted from

    def take(self) -> bool:
        """Note a death. Returns whether another adapter may be started at once."""
        now = self._clock()
        self._left = min(self._left + (now - self._died) // self._earned_s, self.most)
        self._died = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def wait_s(self) -> float:
        """Seconds until the next restart is earned, without a further death."""
        return max(self._died + self._earned_s - self._clock(), 0.0)

    def spend(self) -> None:
        """Note the restart that was waited for."""
        self._died = self._clock()

    def refill(self) -> None:
        """Allow all restarts again."""
        self._left, self._died = self.most, self._clock()
