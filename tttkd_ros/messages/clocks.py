"""How far the stamps of images and sweeps are apart, why, and which offset mends it."""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timezone
from statistics import median

from tttkd_ros.messages.stamps import SECOND

APART_NS = SECOND  # from here on a steady lag, or an offset, is a difference of clocks
WINDOW = 50  # sweeps whose lag is looked at
STEADY_NS = SECOND  # lags that vary by more are those of a camera that sends no more, or of stamps that jump
KNOWN = {37.0: "37 s is TAI against UTC", 18.0: "18 s is GPS time against UTC", 19.0: "19 s is TAI against GPS time"}
HALF_HOUR = 1800.0  # seconds; time zones differ by multiples
UNSET = 30 * 86400.0  # seconds; of clocks further apart one was never set
LATE = 5.0  # seconds; images or clouds may be that late by their transport alone


class Lag:
    """Running median of a camera's newest image stamp minus the sweep's stamp, as each sweep arrives.

    It tells clocks apart where the nearest image cannot: the images kept are only the newest few.
    """

    def __init__(self):
        self._newest: deque[int] = deque(maxlen=WINDOW)
        self._lags: deque[int] = deque(maxlen=WINDOW)

    def add(self, newest: int, lag: int) -> None:
        """newest: the image's stamp. lag: how far it is after what belongs to the sweep. Both in nanoseconds."""
        self._newest.append(newest)
        self._lags.append(lag)

    def clear(self) -> None:
        self._newest.clear()
        self._lags.clear()

    @property
    def apart(self) -> int | None:
        """The lag in nanoseconds if the clocks are apart, else None."""
        images = set(self._newest)
        if len(images) < 2:
            return None  # one image says nothing: it may be a stale one
        lag = round(median(self._lags))
        steady = max(self._lags) - min(self._lags) <= STEADY_NS
        period = (max(images) - min(images)) / (len(images) - 1)
        # If images come after their sweeps, the newest is one period old.
        least = APART_NS + (period if lag < 0 else 0)
        return lag if steady and abs(lag) >= least else None


def image_time(stamp: int, offset: int) -> int:
    """An image's stamp by the sweeps' clock, nanoseconds.

    offset: from a sweep's stamp to that of its image. One below a second is time that passes between the two, and the
    stamp holds; a longer one is a difference of clocks.
    """
    return stamp - offset if abs(offset) >= APART_NS else stamp


def explain_clocks(lag: int, offset: int, tolerance: int, stamp: int) -> str:
    """What to do about images that are always stamped apart from the sweeps.

    lag: the image's stamp minus the sweep's minus the offset in force. stamp: a sweep's. All in nanoseconds.
    """
    apart = _rounded((offset + lag) / SECOND)
    found = f"images are {abs(apart):.1f} s {'behind' if apart < 0 else 'ahead of'} the sweeps"
    if abs(apart) > UNSET:
        found += f" (sweeps of {_date(stamp)}, images of {_date(stamp + offset + lag)}: one clock is not set)"
    elif name := _name(abs(apart)):
        found += f" ({name})"
    if offset:
        found += f", the offset in force is {_plain(offset / SECOND)} s"
    remedy = f"--offset {_plain(apart)}, for the node matching.offsets: [{_plain(apart)}{'' if apart % 1 else '.0'}]"
    if abs(apart) > UNSET:
        remedy = f"synchronise the clocks, or for this recording {remedy}"
    elif abs(apart) < LATE:
        late = f"matching.wait: {abs(apart) + 0.1:.1f} if images only arrive late"
        remedy += f"; {late if apart < 0 else 'a larger matching.depth if clouds only arrive late'}"
    return f"{found}, the tolerance is {tolerance / SECOND:g} s: {remedy}"


def _rounded(seconds: float) -> float:
    """To what two clocks are known to be apart by, or to whole seconds, if one of them is a frame or so away."""
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
