"""Inference owns the deadline: as latency comes near it, adaptation gives way before any sweep does."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from tttkd_ros.adaptation.config import RANGES, TTTConfig

NEAR_SHARE = 0.9  # of the deadline; a longer latency is too near
NEAR_WINDOW, MIN_NEAR = 10, 2  # sweeps, and how many of them must be too near: any program may delay one
RELAXED_SHARE = 0.75  # of the deadline; a shorter latency leaves room for adaptation
RELAXED_WINDOW, MAX_TIGHT = 50, 5  # sweeps since the last change, and how many of them may be longer
PERIOD_WINDOW = 20  # sweeps over which the period's median is taken
MAX_PERIOD_S = 10.0  # a longer distance between two sweeps is a pause
MAX_STRIDE_FACTOR = 64


@dataclass(frozen=True)
class Throttle:
    """What the deadline leaves to adaptation.

    Args:
        stride_factor: multiplies the stride.
        kd_points: share of the points in the loss.
    """

    stride_factor: int = 1
    kd_points: float = 1.0

    def apply(self, config: TTTConfig) -> TTTConfig:
        """Return the throttled settings."""
        if self == Throttle():
            return config
        stride = min(self.stride_factor * config.stride, RANGES["stride"][1])
        points = max(round(self.kd_points * config.kd_points), RANGES["kd_points"][0])
        return replace(config, stride=stride, kd_points=points)


# Fewer points come first, because they cost the least of the gain. Then the stride grows.
LEVELS = (
    Throttle(), Throttle(1, 0.5), *(Throttle(2**power, 0.5) for power in range(1, MAX_STRIDE_FACTOR.bit_length()))
)


class Governor:
    """Chooses the throttle from the latency of every sweep. The thread that predicts uses it.

    Args:
        deadline_s: seconds from a sweep's arrival to its prediction. 0 takes the sweep period, measured from the
            stamps, or from the arrivals if a replay is slower than its stamps.
    """

    def __init__(self, deadline_s: float):
        self._deadline_s = deadline_s
        self._level = 0
        self._near: deque[bool] = deque(maxlen=NEAR_WINDOW)
        self._tight: deque[bool] = deque(maxlen=RELAXED_WINDOW)
        self._last: tuple[float, float] | None = None
        self._periods: deque[tuple[float, float]] = deque(maxlen=PERIOD_WINDOW)

    @property
    def throttle(self) -> Throttle:
        """The current throttle."""
        return LEVELS[self._level]

    @property
    def exhausted(self) -> bool:
        """Whether adaptation has nothing left to give."""
        return self._level == len(LEVELS) - 1

    @property
    def deadline_s(self) -> float:
        """The current deadline, seconds; infinite until a sweep period is known."""
        if self._deadline_s:
            return self._deadline_s
        return float(np.median(self._periods, axis=0).max()) if self._periods else float("inf")

    def observe(self, stamp: int, arrived: float, latency_s: float) -> None:
        """Record one sweep. stamp: nanoseconds. arrived: seconds of a steady clock. latency_s: until its prediction."""
        now = stamp * 1e-9, arrived
        if self._last is not None:
            period = now[0] - self._last[0], now[1] - self._last[1]
            if all(0 <= seconds < MAX_PERIOD_S for seconds in period):  # neither a jump nor a pause
                self._periods.append(period)
        self._last = now
        used = latency_s / self.deadline_s if self.deadline_s else 1.0
        self._near.append(used > NEAR_SHARE)
        self._tight.append(used >= RELAXED_SHARE)
        if self._near[-1] and sum(self._near) >= MIN_NEAR:
            self._level = min(self._level + 1, len(LEVELS) - 1)
            self._tight.clear()
        elif len(self._tight) == RELAXED_WINDOW and sum(self._tight) <= MAX_TIGHT and self._level:
            self._level -= 1
            self._tight.clear()
