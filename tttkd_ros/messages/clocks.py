"""Detect that camera and LiDAR clocks differ, and explain which offset corrects it."""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timezone
from statistics import median

from tttkd_ros.messages.stamps import SECOND

MIN_DIFFERENCE_NS = SECOND  # a steady lag or an offset of at least this is a difference of clocks
WINDOW = 50  # scans over which the lag is measured
MAX_SPREAD_NS = SECOND  # lags that vary more come from a camera that has stopped, or from stamps that jump
KNOWN = {37.0: "37 s is TAI against UTC", 18.0: "18 s is GPS time against UTC", 19.0: "19 s is TAI against GPS time"}
HALF_HOUR = 1800.0  # seconds; time zones differ by multiples
UNSET_THRESHOLD = 30 * 86400.0  # seconds; if clocks differ by more, one was never set
MAX_TRANSPORT_S = 5.0  # transport alone may delay images or clouds by this much


class Lag:
    """Running median of a camera's newest stamp minus the scan's stamp: only the newest images are kept."""

    def __init__(self):
        self._measured: deque[tuple[int, int]] = deque(maxlen=WINDOW)

    def add(self, newest: int, lag: int) -> None:
        """Add the newest image's stamp, and how much later it is than the scan's image would be; nanoseconds."""
        self._measured.append((newest, lag))

    @property
    def apart(self) -> int | None:
        """The lag in nanoseconds if the clocks differ, else None."""
        images = {newest for newest, _ in self._measured}
        if len(images) < 2:
            return None  # a single image may be an old one
        lags = [lag for _, lag in self._measured]
        lag = round(median(lags))
        steady = max(lags) - min(lags) <= MAX_SPREAD_NS
        period = (max(images) - min(images)) / (len(images) - 1)
        # If images arrive after their scans, the newest image is one period old.
        threshold = MIN_DIFFERENCE_NS + (period if lag < 0 else 0)
        return lag if steady and abs(lag) >= threshold else None


def image_time(stamp: int, offset: int) -> int:
    """An image's stamp by the LiDAR's clock, nanoseconds. offset: from a scan's stamp to its image's, nanoseconds.

    Below a second it is time that passes, and the stamp holds. From a second on it is a difference of clocks.
    """
    return stamp - offset if abs(offset) >= MIN_DIFFERENCE_NS else stamp


def explain_clocks(lag: int, offset: int, tolerance: int, stamp: int) -> str:
    """The difference of the clocks and the offset that corrects it. All in ns; `lag` is beyond the present `offset`."""
    apart = _rounded((offset + lag) / SECOND)
    found = f"images are {abs(apart):.1f} s {'behind' if apart < 0 else 'ahead of'} the sweeps"
    if abs(apart) > UNSET_THRESHOLD:
        found += f" (sweeps of {_date(stamp)}, images of {_date(stamp + offset + lag)}: one clock is not set)"
    elif name := _name(abs(apart)):
        found += f" ({name})"
    if offset:
        found += f", the offset in force is {_plain(offset / SECOND)} s"
    remedy = f"--offset {_plain(apart)}, for the node matching.offsets: [{_plain(apart)}{'' if apart % 1 else '.0'}]"
    if abs(apart) > UNSET_THRESHOLD:
        remedy = f"synchronise the clocks, or for this recording {remedy}"
    elif abs(apart) < MAX_TRANSPORT_S:
        late = f"matching.wait: {abs(apart) + 0.1:.1f} if images only arrive late"
        remedy += f"; {late if apart < 0 else 'a larger matching.depth if clouds only arrive late'}"
    return f"{found}, the tolerance is {tolerance / SECOND:g} s: {remedy}"


def _rounded(seconds: float) -> float:
    """Rounded to a known difference of clocks, or to whole seconds, if one of these is about a frame away."""
    size = abs(seconds)
    known = [*KNOWN, HALF_HOUR * round(size / HALF_HOUR)]
    near = [value for value in known if value and abs(size - value) <= 0.5]
    whole = [float(round(size))] if abs(size - round(size)) <= 0.15 else []
    return math.copysign([*near, *whole, round(size, 2)][0], seconds)


def _name(apart: float) -> str:
    hours = apart / 3600
    zone = f"{hours:g} h is a time zone against UTC" if apart and apart % HALF_HOUR == 0 and hours <= 14 else ""
    return KNOWN.get(apart, zone)


def _date(stamp: int) -> str:
    try:
        return datetime.fromtimestamp(stamp // SECOND, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{stamp // SECOND} s"


def _plain(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
