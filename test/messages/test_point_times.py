"""Each driver's way to tell when a point was measured."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.messages.cloud_encoding import encode_points
from tttkd_ros.messages.point_cloud import DATATYPES
from tttkd_ros.messages.point_times import point_times, with_times
from tttkd_ros.messages.stamps import split

STAMP = 1_700_000_000_123_456_789
OFFSETS = np.array([0.0, 0.03, 0.0999])
INT32, UINT32, FLOAT32, FLOAT64, UINT16 = 5, 6, 7, 8, 4


def cloud(name: str, datatype: int, values, x=1.0) -> SimpleNamespace:
    """A cloud of x and one field more."""
    kind = np.dtype({"names": ["x", name], "formats": ["<f4", "<" + DATATYPES[datatype]]})
    data = np.zeros(len(values), kind)
    data["x"], data[name] = x, values
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
        pytest.param("time_stamp", FLOAT64, STAMP * 1e-9 + OFFSETS, OFFSETS, id="autoware, a date"),
        pytest.param("point_time_offset", UINT32, OFFSETS * 1e9, OFFSETS, id="blickfeld"),
        pytest.param("time_offset_ns", INT32, OFFSETS * 1e9 - 5e7, OFFSETS - 0.05, id="aeva"),
        pytest.param("timestamp", FLOAT64, STAMP * 1e-6 + OFFSETS * 1e3, OFFSETS, id="a date in milliseconds"),
        pytest.param("timestamp", FLOAT64, STAMP * 1e-3 + OFFSETS * 1e6, OFFSETS, id="a date in microseconds"),
        pytest.param("time", FLOAT32, OFFSETS * 1e3, OFFSETS, id="milliseconds"),
        pytest.param("t", FLOAT32, OFFSETS * 1e6, OFFSETS, id="microseconds"),
        pytest.param("timestamp", FLOAT32, OFFSETS * 1e9, OFFSETS, id="nanoseconds in a float"),
        pytest.param("t", FLOAT64, (OFFSETS - 0.0999) * 1e3, OFFSETS - 0.0999, id="milliseconds before the stamp"),
        pytest.param("t", UINT32, OFFSETS * 1e6, OFFSETS, id="whole microseconds"),
        pytest.param("stamps", UINT16, np.rint(OFFSETS * 1e3), [0, 0.03, 0.1], id="whole milliseconds"),
        pytest.param("deltaT", INT32, (OFFSETS - 0.0999) * 1e6, OFFSETS - 0.0999, id="microseconds before the stamp"),
        pytest.param("t", UINT32, [0, 1000, 1300], [0, 1e-6, 1.3e-6], id="too short for a sweep in any unit"),
        pytest.param("time", FLOAT32, [0, 0, 0], [0, 0, 0], id="all at once"),
    ],
)
def test_times_of_drivers_become_seconds_from_the_stamp(name, datatype, values, expected):
    np.testing.assert_allclose(point_times(cloud(name, datatype, values)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "datatype", "values"),
    [
        ("timestamp", FLOAT64, [STAMP * 1e-9, 0, STAMP * 1e-9 + 0.05]), ("t", UINT32, [0, 3_000_000_000, 50_000_000]),
        ("time", FLOAT32, [0, np.nan, 50]), ("offset_time", UINT32, [0, 2**32 - 1, 50_000]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf])
def test_time_of_a_point_without_return_is_ignored(name, datatype, values, nothing):
    times = point_times(cloud(name, datatype, values, x=[2.0, nothing, 3.0]))
    np.testing.assert_allclose(times, [0, 0, 0.05], atol=1e-6)


def test_cloud_without_returns_has_times_of_zero():
    np.testing.assert_array_equal(point_times(cloud("t", UINT32, [5, 6, 2**32 - 1], x=0.0)), [0, 0, 0])


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)])
def test_given_unit_is_used(unit, scale):
    short = np.array([0.0, 0.25, 0.5])
    np.testing.assert_allclose(point_times(cloud("t", FLOAT64, short), unit=unit), short * scale, atol=1e-12)
    slow = np.array([0.0, 2.0, 4.0]) / scale
    np.testing.assert_allclose(point_times(cloud("t", FLOAT64, slow), unit=unit), [0, 2, 4])
    with pytest.raises(ValueError, match=f"holds .* as {unit} it has times .* at most 10 s.*points.time_unit"):
        point_times(cloud("t", FLOAT64, slow * 4), unit=unit)


def test_unknown_unit_is_refused():
    with pytest.raises(ValueError, match="unit of point times is 'min', expected one of auto, s, ms, us, ns"):
        point_times(cloud("t", UINT32, [1]), unit="min")


def test_date_in_float32_is_refused():
    with pytest.raises(ValueError, match="'timestamp' holds"):
        point_times(cloud("timestamp", FLOAT32, np.full(3, STAMP * 1e-9)))


def test_clock_difference_is_refused_with_its_value():
    with pytest.raises(ValueError, match="as s it has times from 37 to 37.1 s .* one clock"):
        point_times(cloud("timestamp", FLOAT64, STAMP * 1e-9 + 37 + np.array([0.0, 0.05, 0.1])))


def test_cloud_without_time_field_has_no_times():
    assert point_times(cloud("ring", UINT32, [1, 2, 3])) is None


def test_empty_cloud_has_empty_times():
    assert point_times(cloud("t", UINT32, [])).shape == (0,)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_time_that_is_not_finite_is_refused(wrong):
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
def test_times_too_far_from_the_stamp_are_refused(name, datatype, values):
    with pytest.raises(ValueError, match=f"{name!r} holds .* has times from .* one clock"):
        point_times(cloud(name, datatype, values))


def test_written_times_are_read_back():
    points = np.arange(9, dtype=np.float32).reshape(3, 3)
    written = with_times(encode_points(points, np.ones(3, np.float32)), OFFSETS)
    message = cloud("t", UINT32, OFFSETS)
    message.fields, message.point_step, message.data = written.fields, written.point_step, written.data
    np.testing.assert_allclose(point_times(message), OFFSETS, atol=1e-9)


@pytest.mark.parametrize("times", [OFFSETS[:2], OFFSETS - 0.01, np.full(3, np.nan)])
def test_times_of_another_shape_or_range_are_not_written(times):
    with pytest.raises(ValueError, match="times have shape"):
        with_times(encode_points(np.zeros((3, 3), np.float32)), times)


def test_integer_times_are_not_written():
    with pytest.raises(ValueError, match="times are uint8, expected float64"):
        with_times(encode_points(np.zeros((3, 3), np.float32)), np.zeros(3, np.uint8))
