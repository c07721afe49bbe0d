"""When each point of a PointCloud2 was measured, by the fields that drivers tell it with."""

from __future__ import annotations

import array

import numpy as np

from tttkd_ros.messages.point_cloud import CloudBytes, Field, decode_field
from tttkd_ros.messages.stamps import SECOND, nanoseconds

# Ouster; Velodyne; Hesai and RoboSense; Livox; Autoware.
NAMES = ("t", "time", "timestamp", "offset_time", "time_stamp")
LONGEST_S = 1.0  # from the cloud's stamp to a point: no sweep takes longer
UINT32 = 6


def point_times(msg) -> np.ndarray | None:
    """(N,) float64, seconds from the header's stamp to each point's instant; None for a cloud that does not tell.

    Whole numbers are nanoseconds, others seconds, or nanoseconds where they are too large for a date (Livox). What
    lies within `LONGEST_S` of 0 counts from the stamp, whichever end of the sweep that is at (before it is negative);
    anything else is a date. Raises ValueError where one is not finite or lies further from the stamp than that.
    """
    name = next((field.name for field in msg.fields if field.name in NAMES), None)
    if name is None:
        return None
    told = decode_field(msg, name)
    if not len(told):
        return np.zeros(0)
    low, high = float(told.min()), float(told.max())
    if not np.isfinite(low + high):
        raise ValueError(f"cloud field {name!r} holds a time that is not finite")
    largest = max(abs(low), abs(high))
    unit = 1e-9 if told.dtype.kind in "iu" or largest > 1e12 else 1.0
    start = 0 if largest * unit <= LONGEST_S else nanoseconds(msg.header.stamp)
    times = told.astype(np.float64)
    # In the field's own unit first: a date in seconds loses less by one subtraction than by a product before it.
    times = (times - start * (1e-9 / unit)) * unit
    first, last = float(times.min()), float(times.max())
    if first < -LONGEST_S or last > LONGEST_S:
        raise ValueError(f"cloud field {name!r} has times from {first:g} to {last:g} s after the cloud's stamp; "
                         f"expected at most {LONGEST_S:g} s: do LiDAR and driver have one clock?")
    return times


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
