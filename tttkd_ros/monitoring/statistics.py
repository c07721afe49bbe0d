"""Stage times and counters of a running node."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import numpy as np

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.diagnosis import explain_steps, kind_of

# images: the wait for them, and the teacher's pass, of a student with injection. latency: from a sweep's arrival to its
# publication.
STAGES = ("decode", "images", "segment", "encode", "publish", "latency")
SWEEP_WINDOW = 600  # sweeps of which the percentiles are taken: a minute at 10 Hz
STEP_WINDOW, MIN_STEPS = 20, 5  # last steps that are kept, and how many it takes to call nearly all of them refused
MINUTE_S = 60.0
MAX_REASONS = 32  # that are counted one by one; further ones are counted together


class Statistics:
    """Counts what a node does. The working threads write, the reporting one reads. clock: current time, seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._steps: deque[tuple[float, StepReport]] = deque(maxlen=STEP_WINDOW)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._rejections: Counter[str] = Counter()
        self._seconds: dict[str, deque[float]] = {stage: deque(maxlen=SWEEP_WINDOW) for stage in STAGES}

    def count(self, event: str) -> None:
        with self._lock:
            self._counts[event] += 1

    def add_times(self, seconds: Mapping[str, float]) -> None:
        """Add one sweep's seconds, by stage."""
        with self._lock:
            for stage, value in seconds.items():
                self._seconds[stage].append(value)

    def add_step(self, report: StepReport) -> None:
        """Count a training step's outcome, and a rejection also by its kind of reason."""
        with self._lock:
            self._counts[report.outcome] += 1
            self._steps.append((self._clock(), report))
            if report.outcome == "rejected":
                kind = kind_of(report.reason)
                known = kind in self._rejections or len(self._rejections) < MAX_REASONS
                self._rejections[kind if known else "other"] += 1

    def counts(self) -> Counter[str]:
        with self._lock:
            return self._counts.copy()

    def refusals(self) -> str:
        """Why nearly all of the last steps were refused; empty if they were not."""
        with self._lock:
            return explain_steps((report for _, report in self._steps), MIN_STEPS)

    def steps_in_last_minute(self) -> int:
        """At most `STEP_WINDOW`."""
        with self._lock:
            return sum(self._clock() - when <= MINUTE_S for when, _ in self._steps)

    def rejections(self) -> dict[str, int]:
        with self._lock:
            return {f"rejected: {reason}": number for reason, number in self._rejections.most_common()}

    def times_ms(self) -> dict[str, float]:
        """The median of every stage and the latency's 95th and 99th percentile over the last `SWEEP_WINDOW` sweeps."""
        with self._lock:
            seconds = {stage: np.array(values) for stage, values in self._seconds.items() if values}
        figures = {f"{stage} p50 ms": 1e3 * float(np.median(values)) for stage, values in seconds.items()}
        if "latency" in seconds:
            p95, p99 = np.percentile(seconds["latency"], (95, 99))
            figures |= {"latency p95 ms": 1e3 * float(p95), "latency p99 ms": 1e3 * float(p99)}
        return figures
