"""Inference owns the deadline: as a prediction's latency nears it, adaptation gives way before any sweep does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from tttkd_ros.adaptation.config import RANGES, TTTConfig

NEAR = 0.9  # share of the deadline from which a latency counts as too near
RECENT, OFTEN = 10, 2  # sweeps, and how many of them too near it take: one alone may be any program's doing
EASY = 0.75  # share below which most of a window must lie before adaptation is given more again
WINDOW, SELDOM = 50, 5  # sweeps since the last shedding that it takes, and how many of them may lie above
PERIODS = 20  # sweeps whose distances the period is the median of
PAUSE_S = 10.0  # a longer distance is no period
MOST = 64  # times the stride, when all else is shed


@dataclass(frozen=True)
class Share:
    """What adaptation is left with: `stretch` times the configured stride, and this share of the points per step."""

    stretch: int = 1
    kd_points: float = 1.0

    def of(self, config: TTTConfig) -> TTTConfig:
        if self == Share():
            return config
        stride = min(self.stretch * config.stride, RANGES["stride"][1])
        points = max(round(self.kd_points * config.kd_points), RANGES["kd_points"][0])
        return replace(config, stride=stride, kd_points=points)


# First fewer points, which costs least of the gain; then ever longer strides.
LEVELS = (Share(), Share(1, 0.5), *(Share(2**power, 0.5) for power in range(1, MOST.bit_length())))


class Governor:
    """Told of every sweep's latency, decides what adaptation may take. Used by the one thread that predicts.

    deadline_s: seconds from a sweep's arrival to its answer; 0: the sweep period, measured from the stamps, or from the
    arrivals where a replay is slower than its stamps.
    """

    def __init__(self, deadline_s: float):
        self._given = deadline_s
        self._level = 0
        self._near: deque[bool] = deque(maxlen=RECENT)
        self._tight: deque[bool] = deque(maxlen=WINDOW)
        self._last: tuple[float, float] | None = None
        self._periods: deque[tuple[float, float]] = deque(maxlen=PERIODS)

    @property
    def share(self) -> Share:
        return LEVELS[self._level]

    @property
    def exhausted(self) -> bool:
        """Whether all that can be shed has been."""
        return self._level == len(LEVELS) - 1

    @property
    def deadline_s(self) -> float:
        """In force; infinite until a sweep period is known."""
        if self._given:
            return self._given
        return float(np.median(self._periods, axis=0).max()) if self._periods else float("inf")

    def observe(self, stamp: int, arrived: float, latency_s: float) -> None:
        """stamp: of the sweep, nanoseconds. arrived: by a steady clock, seconds. latency_s: from then to its answer."""
        now = stamp * 1e-9, arrived
        if self._last is not None:
            period = now[0] - self._last[0], now[1] - self._last[1]
            if all(0 <= seconds < PAUSE_S for seconds in period):  # neither a jump nor a pause
                self._periods.append(period)
        self._last = now
        used = latency_s / self.deadline_s if self.deadline_s else 1.0
        self._near.append(used > NEAR)
        self._tight.append(used >= EASY)
        if self._near[-1] and sum(self._near) >= OFTEN:
            self._level = min(self._level + 1, len(LEVELS) - 1)
            self._tight.clear()
        elif len(self._tight) == WINDOW and sum(self._tight) <= SELDOM and self._level:
            self._level -= 1
            self._tight.clear()
