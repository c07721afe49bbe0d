"""Inference owns the deadline: as latency comes near it, adaptation gives way, as far as that helps."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from tttkd_ros.adaptation.config import RANGES, TTTConfig

NEAR_SHARE, RELAXED_SHARE = 0.9, 0.75  # of the deadline: a longer latency is near it, a shorter one leaves room
WINDOW = 20  # sweeps between two decisions, so that a change has shown its effect before the next one
MIN_NEAR, MAX_TIGHT = 4, 1  # sweeps of a window: that are near, to throttle; that leave no room, to release
MIN_COST, MAX_COST = 4.0, 1.0  # sweeps of a window that steps made slow: to throttle; to release
MIN_ALONE = 5  # sweeps of a window without a step, to compare the others with
MAX_BESIDE = WINDOW // 3  # sweeps of a window beside a step, of which twice as many still leave a comparison
SLOWER = 1.1  # times the usual duration; a shorter one is no slower
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


@dataclass(frozen=True)
class _Sweep:
    latency_s: float
    seconds: float  # of its own work, without its wait for earlier sweeps
    beside_step: bool


class Governor:
    """Chooses the throttle from the latency of every sweep. The thread that predicts uses it.

    It decides once every `WINDOW` sweeps. It throttles if the latency is near the deadline because of the steps: if
    sweeps beside a step are slow more often than the others, or if there are hardly any others to compare with. It
    releases a level if there is room, or if sweeps without a step are as slow, because then throttling does not help.

    Args:
        deadline_s: seconds from a sweep's arrival to its prediction. 0 takes the sweep period, measured from the
            stamps, or from the arrivals if a replay is slower than its stamps.

    Attributes:
        slow_alone: most sweeps are near the deadline, and most predictions would be without any step.
    """

    def __init__(self, deadline_s: float):
        self.slow_alone = self._futile = False
        self._deadline_s = deadline_s
        self._level = 0
        self._window: list[_Sweep] = []  # sweeps since the last decision
        self._done = -math.inf  # when the last sweep was finished
        self._last: tuple[float, float] | None = None
        self._periods: deque[tuple[float, float]] = deque(maxlen=PERIOD_WINDOW)

    @property
    def throttle(self) -> Throttle:
        """The current throttle."""
        return LEVELS[self._level]

    @property
    def exhausted(self) -> bool:
        """Whether adaptation has nothing left to give that would help."""
        return self._futile or self._level == len(LEVELS) - 1

    @property
    def deadline_s(self) -> float:
        """The current deadline, seconds; infinite until a sweep period is known."""
        return self._deadline_s or self.period_s

    def observe(self, stamp: int, arrived: float, latency_s: float, beside_step: bool) -> None:
        """Record one sweep, in the order of their predictions.

        Args:
            stamp: nanoseconds.
            arrived: seconds of a steady clock.
            latency_s: seconds from its arrival to its prediction.
            beside_step: a step ran during its prediction.
        """
        self._add_period(stamp * 1e-9, arrived)
        started, self._done = max(arrived, self._done), arrived + latency_s
        self._window.append(_Sweep(latency_s, self._done - started, beside_step))
        if len(self._window) == WINDOW:
            self._decide()
            self._window.clear()

    @property
    def period_s(self) -> float:
        """Seconds from sweep to sweep; infinite until it is known."""
        return float(np.median(self._periods, axis=0).max()) if self._periods else math.inf

    def _add_period(self, stamp_s: float, arrived: float) -> None:
        now = stamp_s, arrived
        if self._last is not None:
            period = now[0] - self._last[0], now[1] - self._last[1]
            if all(0 <= seconds < MAX_PERIOD_S for seconds in period):  # neither a jump nor a pause
                self._periods.append(period)
        self._last = now

    def _decide(self) -> None:
        latencies, deadline = [sweep.latency_s for sweep in self._window], self.deadline_s
        near, tight = (sum(s > share * deadline for s in latencies) for share in (NEAR_SHARE, RELAXED_SHARE))
        alone, beside = self._seconds(beside_step=False), self._seconds(beside_step=True)
        cost = self._cost(NEAR_SHARE)
        self._futile = near >= WINDOW // 2 and cost < MIN_COST
        self.slow_alone = self._futile and bool(np.median(alone) > self._limit(NEAR_SHARE))
        if near >= MIN_NEAR and cost >= MIN_COST:
            self._level = min(self._level + 1, len(LEVELS) - 1)
        elif tight <= MAX_TIGHT or (
            self._cost(RELAXED_SHARE) < MAX_COST and (near < MIN_NEAR or len(beside) <= MAX_BESIDE)
        ):
            self._level = max(self._level - 1, 0)

    def _cost(self, share: float) -> float:
        """Return the number of sweeps in the window that steps made slow; infinite if there is no comparison.

        Slow is a sweep that takes longer than this share of the deadline, or than the period, so that sweeps queue up.
        If sweeps without a step are slow as well, it is one that takes longer than they do. One that takes twice as
        long counts twice, for those that wait for it.
        """
        alone, beside = self._seconds(beside_step=False), self._seconds(beside_step=True)
        if len(alone) < MIN_ALONE:
            return math.inf
        limit = max(self._limit(share), SLOWER * float(np.median(alone)))
        slow, usual = (sum(seconds / limit for seconds in group if seconds > limit) for group in (beside, alone))
        return slow - len(beside) * usual / len(alone)

    def _limit(self, share: float) -> float:
        return min(share * self.deadline_s, self.period_s)

    def _seconds(self, *, beside_step: bool) -> list[float]:
        return [sweep.seconds for sweep in self._window if sweep.beside_step == beside_step]
