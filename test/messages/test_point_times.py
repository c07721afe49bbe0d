"""Each driver's way to tell when a point was measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.messages.point_cloud import DATATYPES, encode_points
from tttkd_ros.messages.point_times import point_times, with_times
from tttkd_ros.messages.stamps import split

STAMP = 1_700_000_000_123_456_789
OFFSETS = np.array([0.0, 0.03, 0.0999])
FLOAT32, FLOAT64, UINT32 = 7, 8, 6


def cloud(name: str, datatype: int, values) -> SimpleNamespace:
    """A cloud of x and one field more."""
    kind = np.dtype({"names": ["x", name], "formats": ["<f4", "<" + DATATYPES[datatype]]})
    data = np.zeros(len(values), kind)
    data[name] = values
    fields = [SimpleNamespace(name="x", offset=0, datatype=FLOAT32, count=1),
              SimpleNamespace(name=name, offset=4, datatype=datatype, count=1)]
    sec, nanosec = split(STAMP)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)), height=1, width=len(values),
        fields=fields, is_bigendian=False, point_step=kind.itemsize, row_step=data.nbytes, data=data.tobytes(),
    )


@pytest.mark.parametrize(
    ("name", "datatype", "values", "expected"),
    [
        pytest.param("t", UINT32, OFFSETS * 1e9, OFFSETS, id="ouster"),
        pytest.param("time", FLOAT32, OFFSETS, OFFSETS, id="velodyne"),
        pytest.param("time", FLOAT32, OFFSETS - 0.0999, OFFSETS - 0.0999, id="velodyne stamped at the end"),
        pytest.param("timestamp", FLOAT64, STAMP * 1e-9 + OFFSETS, OFFSETS, id="hesai"),
        pytest.param("timestamp", FLOAT64, STAMP * 1e-9 - OFFSETS, -OFFSETS, id="robosense stamped at the end"),
        pytest.param("timestamp", FLOAT64, STAMP + OFFSETS * 1e9, OFFSETS, id="livox, a date in nanoseconds"),
        pytest.param("offset_time", UINT32, OFFSETS * 1e9, OFFSETS, id="livox"),
        pytest.param("time_stamp", UINT32, OFFSETS * 1e9, OFFSETS, id="autoware"),
    ],
)
def test_a_drivers_times_are_seconds_from_the_stamp(name, datatype, values, expected):
    np.testing.assert_allclose(point_times(cloud(name, datatype, values)), expected, atol=1e-6)


def test_a_cloud_that_tells_no_times_has_none():
    assert point_times(cloud("ring", UINT32, [1, 2, 3])) is None


def test_an_empty_cloud_has_no_times_to_doubt():
    assert point_times(cloud("t", UINT32, [])).shape == (0,)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_time_that_is_not_finite_is_refused(wrong):
    with pytest.raises(ValueError, match="'time' holds a time that is not finite"):
        point_times(cloud("time", FLOAT32, [0.0, wrong]))


@pytest.mark.parametrize(
    ("name", "datatype", "values"),
    [
        pytest.param("time", FLOAT32, [0.0, 1.5], id="too long"),
        pytest.param("t", UINT32, [0, 3_000_000_000], id="too long in nanoseconds"),
        pytest.param("timestamp", FLOAT64, [4000.0, 4000.1], id="the sensor's own clock"),
        pytest.param("timestamp", FLOAT64, [STAMP * 1e-9, 0.0], id="one of another time"),
    ],
)
def test_times_that_belong_to_no_sweep_of_that_stamp_are_refused(name, datatype, values):
    with pytest.raises(ValueError, match=f"{name!r} has times from .* one clock"):
        point_times(cloud(name, datatype, values))


def test_written_times_are_read_back():
    points = np.arange(9, dtype=np.float32).reshape(3, 3)
    written = with_times(encode_points(points, np.ones(3, np.float32)), OFFSETS)
    message = cloud("t", UINT32, OFFSETS)
    message.fields, message.point_step, message.data = written.fields, written.point_step, written.data
    np.testing.assert_allclose(point_times(message), OFFSETS, atol=1e-9)


@pytest.mark.parametrize("times", [OFFSETS[:2], OFFSETS - 0.01, np.full(3, np.nan)])
def test_times_that_the_field_cannot_hold_are_not_written(times):
    with pytest.raises(ValueError, match="times have shape"):
        with_times(encode_points(np.zeros((3, 3), np.float32)), times)


def test_times_in_whole_numbers_are_not_written():
    with pytest.raises(ValueError, match="times are uint8, expected float64"):
        with_times(encode_points(np.zeros((3, 3), np.float32)), np.zeros(3, np.uint8))
