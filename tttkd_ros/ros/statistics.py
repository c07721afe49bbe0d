"""Stage times and counters of a running node, in figures for /diagnostics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import numpy as np

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.diagnosis import explain_steps, kind_of

STAGES = ("decode", "segment", "encode", "publish", "latency")  # latency: from the sweep's arrival to its answer
WINDOW = 600  # sweeps that the percentiles look back on: a minute at 10 Hz
STEPS, FEW = 20, 5  # last steps, and how many it takes of them, to say that nearly every one is refused
MINUTE = 60.0
KINDS = 32  # of reasons counted apart; further ones are counted together


class Statistics:
    """Written by the threads that do the work, read by the one that reports."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._steps: deque[tuple[float, StepReport]] = deque(maxlen=STEPS)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._rejections: Counter[str] = Counter()
        self._seconds: dict[str, deque[float]] = {stage: deque(maxlen=WINDOW) for stage in STAGES}

    def count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def took(self, seconds: Mapping[str, float]) -> None:
        """One sweep's seconds, by stage."""
        with self._lock:
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def step(self, report: StepReport) -> None:
        """Rejections are counted by the kind of reason."""
        with self._lock:
            self._counts[report.outcome] += 1
            self._steps.append((self._clock(), report))
            if report.outcome == "rejected":
                kind = kind_of(report.reason)
                known = kind in self._rejections or len(self._rejections) < KINDS
                self._rejections[kind if known else "other"] += 1

    def counts(self) -> Counter[str]:
        with self._lock:
            return self._counts.copy()

    def refusal(self) -> str:
        """Why nearly every one of the last steps was refused; empty if that is not so."""
        with self._lock:
            return explain_steps((report for _, report in self._steps), least=FEW)

    def steps_in_last_minute(self) -> int:
        """Counts `STEPS` at most."""
        with self._lock:
            return sum(self._clock() - when <= MINUTE for when, _ in self._steps)

    def rejections(self) -> dict[str, int]:
        with self._lock:
            return {f"rejected: {reason}": number for reason, number in self._rejections.most_common()}

    def milliseconds(self) -> dict[str, float]:
        """The median of every stage, and the latency's 95th and 99th percentile, over the last `WINDOW` sweeps."""
        with self._lock:
            seconds = {stage: np.array(values) for stage, values in self._seconds.items() if values}
        figures = {f"{stage} p50 ms": 1e3 * float(np.median(values)) for stage, values in seconds.items()}
        if "latency" in seconds:
            p95, p99 = np.percentile(seconds["latency"], (95, 99))
            figures |= {"latency p95 ms": 1e3 * float(p95), "latency p99 ms": 1e3 * float(p99)}
        return figures
