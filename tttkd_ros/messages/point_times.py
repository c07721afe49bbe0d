"""When each point of a PointCloud2 was measured, by the fields that drivers tell it with."""

from __future__ import annotations

import array
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tttkd_ros.messages.point_cloud import UINT32, CloudBytes, Field, decode_field
from tttkd_ros.messages.stamps import SECOND, nanoseconds

NAMES = (
    "t", "time", "timestamp", "offset_time",  # Ouster; Velodyne; Hesai, RoboSense, Livox; Livox
    "time_stamp", "time_offset", "timestamps", "stamps", "deltaT",  # Nebula; others
    "point_time_offset", "time_offset_ns",  # Blickfeld; Aeva
)  # fmt: skip
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
TIME_UNITS = ("auto", *UNITS)
SHORTEST_S, LONGEST_S = 0.005, 1.0  # a sweep, and from the cloud's stamp to any point of it
LONGEST_GIVEN_S = 10.0  # the same if the unit is given: a slowly tilting scanner
DATE_ERROR_S = 1e-3  # a type that rounds dates by more cannot hold them


def point_times(msg, *, unit: str = "auto") -> np.ndarray | None:
    """(N,) float64, seconds from the header's stamp to each point's instant; None for a cloud without such a field.

    unit: one of `TIME_UNITS`. auto: nanoseconds for whole numbers and seconds for others, which is what most drivers
    send; another unit if the times of the points make a sweep (5 ms to 1 s long) in that one only. Times count from
    the stamp, at whichever end of the sweep that is, or are dates. A point without a return (not finite, or at the
    origin) gets 0, because drivers leave its time unset. Raises ValueError for times that are not finite or lie
    further from the stamp than a sweep lasts.
    """
    if unit not in TIME_UNITS:
        raise ValueError(f"unit of point times is {unit!r}, expected one of {', '.join(TIME_UNITS)}")
    name = next((field.name for field in msg.fields if field.name in NAMES), None)
    if name is None:
        return None
    values = decode_field(msg, name)
    returned = _returned(msg)
    times = np.zeros(len(values))
    values = values[returned]
    if not len(values):
        return times
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"cloud field {name!r} holds a time that is not finite")
    stamp = nanoseconds(msg.header.stamp)
    readings = list(_readings(low, high, stamp, LONGEST_S if unit == "auto" else LONGEST_GIVEN_S))
    usual = "ns" if values.dtype.kind in "iu" or high > 1e12 else "s"
    if unit == "auto":
        sweeps = [each for each in readings if each.last - each.first >= SHORTEST_S]
        fitting = sorted(sweeps, key=lambda each: each.unit != usual) or [r for r in readings if r.unit == usual]
    else:
        fitting = [each for each in readings if each.unit == unit]
    if not fitting:
        raise ValueError(f"cloud field {name!r} {_misfit(low, high, stamp, usual if unit == 'auto' else unit, unit)}")
    scale, start = UNITS[fitting[0].unit], fitting[0].start
    # In the field's own unit first: a date in seconds loses less by one subtraction than by a product before it.
    times[returned] = (values.astype(np.float64) - start * (1e-9 / scale)) * scale
    return times


class _Reading(NamedTuple):
    """What times may mean. start: nanoseconds that they count from; first, last: seconds from the stamp."""

    unit: str
    start: int
    first: float
    last: float


def _readings(low: np.generic, high: np.generic, stamp: int, longest: float) -> Iterator[_Reading]:
    """Every unit and start with which the times low to high lie within `longest` of the stamp."""
    whole = low.dtype.kind in "iu"
    for unit, scale in UNITS.items():
        if whole and unit == "s":
            continue  # too coarse for a sweep
        for start in (0, stamp):
            if start and not whole and float(np.spacing(high)) * scale > DATE_ERROR_S:
                continue
            first, last = ((float(time) - start * (1e-9 / scale)) * scale for time in (low, high))
            if -longest <= first and last <= longest:
                yield _Reading(unit, start, first, last)


def _misfit(low: np.generic, high: np.generic, stamp: int, reading: str, unit: str) -> str:
    """What to say of times of which no reading fits. reading: the unit that they most likely have."""
    spans = {name: (float(high) - float(low)) * scale for name, scale in UNITS.items()}
    sweeps = [name for name, span in spans.items() if SHORTEST_S <= span <= LONGEST_S]
    if unit == "auto" and sweeps and reading not in sweeps:
        reading = sweeps[0]
    scale = UNITS[reading]
    first, last = float(low) * scale, float(high) * scale
    if abs(first - stamp / SECOND) < abs(first):
        first, last = first - stamp / SECOND, last - stamp / SECOND
    longest = LONGEST_S if unit == "auto" else LONGEST_GIVEN_S
    return (
        f"holds {low} to {high}: as {reading} it has times from {first:g} to {last:g} s after the cloud's stamp, "
        f"expected at most {longest:g} s. Do LiDAR and driver have one clock? If the unit is another, set "
        "points.time_unit (tttkd evaluate: --time-unit)"
    )


def _returned(msg) -> np.ndarray:
    """(N,) bool: the points that are something: finite and not at the origin."""
    axes = [decode_field(msg, field.name) for field in msg.fields if field.name in ("x", "y", "z")]
    if not axes:
        return np.ones(int(msg.width) * int(msg.height), bool)
    return np.logical_and.reduce([np.isfinite(axis) for axis in axes]) & np.logical_or.reduce(axes)


def with_times(cloud: CloudBytes, times: np.ndarray) -> CloudBytes:
    """The cloud with Ouster's field `t` more. times: (N,) float, seconds from the stamp, not negative."""
    if times.dtype.kind != "f":
        raise ValueError(f"times are {times.dtype}, expected float64")
    if times.shape != (cloud.width,) or not ((times >= 0) & (times <= LONGEST_S)).all():
        raise ValueError(f"times have shape {times.shape} and go from {times.min(initial=0):g} to "
                         f"{times.max(initial=0):g} s; expected ({cloud.width},), from 0 to {LONGEST_S:g} s")
    points = np.empty((cloud.width, cloud.point_step + 4), np.uint8)
    points[:, :-4] = cloud.data.reshape(cloud.width, cloud.point_step)
    points[:, -4:] = np.rint(times * SECOND).astype("<u4")[:, None].view(np.uint8)
    field = Field("t", cloud.point_step, UINT32, 1)
    return CloudBytes((*cloud.fields, field), cloud.point_step + 4, array.array("B", points.tobytes()), cloud.width)
