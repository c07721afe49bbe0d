"""Which camera message belongs to a sweep: the one nearest in stamp, and never one from across a jump in time."""

from __future__ import annotations

from collections import defaultdict, deque
from threading import Lock
from typing import Generic, TypeVar

Payload = TypeVar("Payload")


class StampMatcher(Generic[Payload]):
    """Per camera the `depth` newest messages, undecoded. Safe to use from several threads.

    A stamp may lie up to `tolerance_ns` before one that came earlier (messages overtake each other); one that lies
    further back means that time jumped (a bag looped, the clock was reset), and all cameras start anew.
    """

    def __init__(self, tolerance_ns: int, depth: int):
        if tolerance_ns < 0:
            raise ValueError(f"tolerance is {tolerance_ns} ns, expected 0 or more")
        if depth < 1:
            raise ValueError(f"depth is {depth} messages, expected at least 1")
        self._tolerance = tolerance_ns
        self._rings: dict[str, deque[tuple[int, Payload]]] = defaultdict(lambda: deque(maxlen=depth))
        self._latest_sweep: int | None = None
        self._lock = Lock()

    def add(self, camera: str, stamp: int, payload: Payload) -> None:
        """Keep a camera's message, the oldest one giving way; a stamp seen before replaces what was kept under it."""
        with self._lock:
            if self._jumps_back(camera, stamp):
                self._clear()
            ring = self._rings[camera]
            for index, (kept, _) in enumerate(ring):
                if kept == stamp:
                    ring[index] = stamp, payload
                    return
            ring.append((stamp, payload))

    def nearest(self, camera: str, stamp: int) -> Payload | None:
        """What `camera` saw nearest to the sweep at `stamp`, within the tolerance; of two as near, the earlier.

        A sweep that jumps back discards what is not near it: that came before the jump.
        """
        with self._lock:
            if self._latest_sweep is not None and stamp < self._latest_sweep - self._tolerance:
                self._keep(stamp - self._tolerance, stamp + self._tolerance)
            self._latest_sweep = stamp
            near = [entry for entry in self._rings[camera] if abs(entry[0] - stamp) <= self._tolerance]
            return min(near, key=lambda entry: (abs(entry[0] - stamp), entry[0]))[1] if near else None

    def newest(self, camera: str) -> int | None:
        """The highest stamp kept of a camera."""
        with self._lock:
            return self._newest(camera)

    def jumps_back(self, camera: str, stamp: int) -> bool:
        """Whether adding this stamp would be a jump in time, and so clear everything."""
        with self._lock:
            return self._jumps_back(camera, stamp)

    def keep(self, first: float, last: float) -> None:
        """Forget the messages stamped outside [first, last]."""
        with self._lock:
            self._keep(first, last)

    def clear(self) -> None:
        """Forget every message of every camera."""
        with self._lock:
            self._clear()

    def _newest(self, camera: str) -> int | None:
        return max((stamp for stamp, _ in self._rings[camera]), default=None)

    def _jumps_back(self, camera: str, stamp: int) -> bool:
        newest = self._newest(camera)
        return newest is not None and stamp < newest - self._tolerance

    def _keep(self, first: float, last: float) -> None:
        for ring in self._rings.values():
            kept = [entry for entry in ring if first <= entry[0] <= last]
            ring.clear()
            ring.extend(kept)

    def _clear(self) -> None:
        self._rings.clear()
        self._latest_sweep = None
