"""The time at which each point of a PointCloud2 was measured, from the fields that drivers write."""

from __future__ import annotations

import array
from collections.abc import Iterator

import numpy as np

from tttkd_ros.messages.cloud_encoding import CloudBytes
from tttkd_ros.messages.point_cloud import UINT32, Field, decode_field
from tttkd_ros.messages.stamps import SECOND, nanoseconds

FIELD_NAMES = (
    "t", "time", "timestamp", "offset_time",  # Ouster; Velodyne; Hesai, RoboSense, Livox; Livox
    "time_stamp", "time_offset", "timestamps", "stamps", "deltaT",  # Nebula; others
    "point_time_offset", "time_offset_ns",  # Blickfeld; Aeva
)  # fmt: skip
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
TIME_UNITS = ("auto", *UNITS)
MIN_SWEEP_S = 0.005  # shortest sweep
MAX_OFFSET_S = 1.0  # from the cloud's stamp to any of its points
MAX_OFFSET_GIVEN_S = 10.0  # the same if the unit is given, for a slowly tilting scanner
DATE_ERROR_S = 1e-3  # a type that rounds dates by more cannot hold them


def point_times(msg, *, unit: str = "auto") -> np.ndarray | None:
    """Seconds (N,) float64 from the stamp of a PointCloud2 to the time of each point; None if it has no such field.

    The field holds times since the stamp, which may be at either end of the sweep, or dates. A point without a return
    (not finite, or at the origin) gets 0, because drivers leave its time unset. The unit "auto" is nanoseconds for
    integers and seconds for floats, unless only another one of `TIME_UNITS` makes the times a sweep (5 ms to 1 s long).
    Raises ValueError if the unit is unknown, or the times are not finite or too far from the stamp.
    """
    if unit not in TIME_UNITS:
        raise ValueError(f"unit of point times is {unit!r}, expected one of {', '.join(TIME_UNITS)}")
    name = next((field.name for field in msg.fields if field.name in FIELD_NAMES), None)
    if name is None:
        return None
    values = decode_field(msg, name)
    axes = [decode_field(msg, field.name) for field in msg.fields if field.name in ("x", "y", "z")]
    has_return = np.ones(len(values), bool)
    if axes:  # finite, and not at the origin
        has_return = np.logical_and.reduce([np.isfinite(axis) for axis in axes]) & np.logical_or.reduce(axes)
    times = np.zeros(len(values))
    values = values[has_return]
    if not len(values):
        return times
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"cloud field {name!r} holds a time that is not finite")
    stamp = nanoseconds(msg.header.stamp)
    expected = ("ns" if values.dtype.kind in "iu" or high > 1e12 else "s") if unit == "auto" else unit
    readings = list(_readings(low, high, stamp, MAX_OFFSET_S if unit == "auto" else MAX_OFFSET_GIVEN_S))
    sweeps = [(name, start) for name, start, duration in readings if unit == "auto" and duration >= MIN_SWEEP_S]
    # The first sweep in the expected unit, else the first one in another unit, else any times in the expected unit.
    ordered = sorted(sweeps, key=lambda sweep: sweep[0] != expected)
    ordered += [(name, start) for name, start, _ in readings if name == expected]
    if not ordered:
        raise ValueError(f"cloud field {name!r} {_misfit(low, high, stamp, expected, unit == 'auto')}")
    found, start = ordered[0]
    scale = UNITS[found]
    # Subtract first, in the field's own unit: a date in seconds loses less precision that way.
    times[has_return] = (values.astype(np.float64) - start * (1e-9 / scale)) * scale
    return times


def _readings(low: np.generic, high: np.generic, stamp: int, max_offset: float) -> Iterator[tuple[str, int, float]]:
    """Every unit, start (ns) and duration (s) that put the times low to high within `max_offset` s of the stamp."""
    whole = low.dtype.kind in "iu"
    for unit, scale in UNITS.items():
        if whole and unit == "s":
            continue  # too coarse for a sweep
        for start in (0, stamp):
            if start and not whole and float(np.spacing(high)) * scale > DATE_ERROR_S:
                continue
            first, last = ((float(time) - start * (1e-9 / scale)) * scale for time in (low, high))
            if -max_offset <= first and last <= max_offset:
                yield unit, start, last - first


def _misfit(low: np.generic, high: np.generic, stamp: int, unit: str, auto: bool) -> str:
    """Why no reading of the times low to high fits. unit: the likely one, or the given one if not `auto`."""
    spans = {name: (float(high) - float(low)) * scale for name, scale in UNITS.items()}
    sweeps = [name for name, span in spans.items() if MIN_SWEEP_S <= span <= MAX_OFFSET_S]
    if auto and sweeps and unit not in sweeps:
        unit = sweeps[0]
    scale = UNITS[unit]
    first, last = float(low) * scale, float(high) * scale
    if abs(first - stamp / SECOND) < abs(first):
        first, last = first - stamp / SECOND, last - stamp / SECOND
    return (f"holds {low} to {high}: as {unit} it has times from {first:g} to {last:g} s after the cloud's stamp, "
            f"expected at most {MAX_OFFSET_S if auto else MAX_OFFSET_GIVEN_S:g} s. Do LiDAR and driver have one clock? "
            "If the unit is another, set points.time_unit (tttkd evaluate: --time-unit)")


def with_times(cloud: CloudBytes, times: np.ndarray) -> CloudBytes:
    """The cloud with Ouster's field `t`: times (N,) float, seconds from the stamp. Raises ValueError unless 0 to 1."""
    if times.dtype.kind != "f":
        raise ValueError(f"times are {times.dtype}, expected float64")
    if times.shape != (cloud.width,) or not ((times >= 0) & (times <= MAX_OFFSET_S)).all():
        raise ValueError(f"times have shape {times.shape} and go from {times.min(initial=0):g} to "
                         f"{times.max(initial=0):g} s; expected ({cloud.width},), from 0 to {MAX_OFFSET_S:g} s")
    points = cloud.padded(cloud.point_step + 4).data.reshape(cloud.width, cloud.point_step + 4).copy()
    points[:, -4:] = np.rint(times * SECOND).astype("<u4")[:, None].view(np.uint8)
    field = Field("t", cloud.point_step, UINT32, 1)
    return CloudBytes((*cloud.fields, field), cloud.point_step + 4, array.array("B", points.tobytes()), cloud.width)
