"""Decode and encode clouds, compared with a memcpy of the same bytes and with sensor_msgs_py.

The memcpy copies the message's data with NumPy into new memory, as the codecs do. `x memcpy` is the time of a codec
divided by that of the memcpy. Every call takes another sweep from a ring larger than the processor's caches, as the
node meets each sweep once. `cached` is the ratio if all calls take the same sweep, which then lies in the cache.

decode is `decode_cloud`, compared with `read_points_numpy` of x, y and z, made contiguous. encode is `encode_labelled`
with intensity, compared with `create_cloud` from a structured array. sensor_msgs_py is measured if it can be imported;
(wrong) marks points that it decodes to other values than were encoded.

Aims: decode within 1.5 times a memcpy, encode within 3 times. A small cloud misses them, because Python costs 10 to
20 us per message.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from common import Rows, command, medians, one_thread, spinning_lidar, table
from rich.table import Table

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.messages.cloud_encoding import encode_labelled
from tttkd_ros.messages.point_cloud import Field, decode_cloud

try:
    from sensor_msgs.msg import PointCloud2, PointField
    from std_msgs.msg import Header
except ImportError:  # no ROS: anything with a message's attributes will do
    PointCloud2 = PointField = Header = SimpleNamespace
try:
    from sensor_msgs_py import point_cloud2 as sensor_msgs_py
except ImportError:
    sensor_msgs_py = None

RING_BYTES = 256 << 20
F32 = 7
XYZ = (Field("x", 0, F32, 1), Field("y", 4, F32, 1), Field("z", 8, F32, 1))


@dataclass(frozen=True)
class Layout:
    """fields and point_step as in PointCloud2. height: rows of the cloud. padding: bytes after each of them."""

    name: str
    fields: tuple[Field, ...]
    point_step: int
    height: int = 1
    padding: int = 0


LAYOUTS = (
    Layout("xyz", XYZ, 12),
    Layout("xyzi", (*XYZ, Field("intensity", 12, F32, 1)), 16),
    Layout(
        "Velodyne",
        (*XYZ, Field("intensity", 12, F32, 1), Field("ring", 16, 4, 1), Field("time", 18, F32, 1)),
        22,
    ),
    Layout(
        "Ouster",
        (*XYZ, Field("intensity", 16, F32, 1), Field("t", 20, 6, 1), Field("reflectivity", 24, 4, 1),
         Field("ring", 26, 4, 1), Field("ambient", 28, 4, 1), Field("range", 32, 6, 1)),
        48,
    ),
    Layout("padded rows", (*XYZ, Field("intensity", 16, F32, 1)), 32, height=16, padding=64),
)  # fmt: skip


def run(quick: bool = False) -> Rows:
    """One row for each layout decoded, and for the labelled cloud encoded, at 20,000 and 120,000 points.

    Args:
        quick: Run briefly, only to check that it works.
    """
    sizes = (1_600,) if quick else (20_000, 120_000)
    rounds = 5 if quick else 400
    with one_thread():
        rows = [_decode(layout, size, rounds) for size in sizes for layout in LAYOUTS]
        return rows + [_encode(size, rounds) for size in sizes]


def show(rows: Rows) -> Table:
    shown = [row | {"theirs": _theirs(row)} for row in rows]
    return table(
        "Clouds, µs; aims for x memcpy: decode 1.5, encode 3. Theirs: sensor_msgs_py",
        shown,
        {
            "": ("what", ""), "layout": ("layout", ""), "step": ("step", "d"), "points": ("points", ",d"),
            "µs": ("us", ".0f"), "memcpy": ("memcpy_us", ".0f"), "x memcpy": ("ratio", ".2f"),
            "cached": ("ratio_cached", ".2f"), "theirs": ("theirs", ">"),
        },
    )  # fmt: skip


def _decode(layout: Layout, size: int, rounds: int) -> dict:
    points = spinning_lidar(size)
    message = _message(layout, points)
    contenders = {"ours": decode_cloud, "memcpy": lambda message: np.frombuffer(message.data, np.uint8).copy()}
    right = None
    if sensor_msgs_py:
        contenders["theirs"] = _read_points
        right = bool(np.array_equal(contenders["theirs"](message), points))
    return _row("decode", layout.name, len(message.data), contenders, message, _copied, size, rounds) | {"right": right}


def _encode(size: int, rounds: int) -> dict:
    draw = np.random.default_rng(0)
    labels = np.repeat(draw.integers(0, len(OUTDOOR), -(-size // 16)), 16)[:size].astype(np.uint8)
    parts = spinning_lidar(size), labels, draw.random(size, np.float32), draw.random(size, np.float32)
    encoded = encode_labelled(*parts[:3], OUTDOOR.palette, parts[3])
    inputs = (*parts, encoded.data)  # the last for the memcpy
    fields = [PointField(**field._asdict()) for field in encoded.fields]
    contenders = {
        "ours": lambda given: encode_labelled(*given[:3], OUTDOOR.palette, given[3]),
        "memcpy": lambda given: given[-1].copy(),
    }
    if sensor_msgs_py:
        contenders["theirs"] = lambda given: _create_cloud(fields, encoded.point_step, *given[:4])
    copies = lambda given: tuple(part.copy() for part in given)  # noqa: E731
    row = _row("encode", "labelled", encoded.data.nbytes, contenders, inputs, copies, size, rounds)
    return row | {"right": bool(contenders["theirs"](inputs).data == encoded.buffer) if sensor_msgs_py else None}


def _row(
    what: str, layout: str, size: int, contenders: dict[str, Callable], given: Any, copied: Callable, points: int,
    rounds: int,
) -> dict:  # fmt: skip
    """size: bytes of the message. given: what the contenders take; copied: makes another one of it."""
    ring = [given, *(copied(given) for _ in range(min(RING_BYTES // size, 3 * rounds)))]
    once = medians({name: lambda n, f=f: f(ring[n % len(ring)]) for name, f in contenders.items()}, rounds)
    again = medians({name: lambda _, f=f: f(given) for name, f in contenders.items()}, rounds)
    return {
        "what": what, "layout": layout, "step": size // points, "points": points, "bytes": size,
        "us": once["ours"] * 1e6, "memcpy_us": once["memcpy"] * 1e6, "ratio": once["ours"] / once["memcpy"],
        "us_cached": again["ours"] * 1e6, "memcpy_us_cached": again["memcpy"] * 1e6,
        "ratio_cached": again["ours"] / again["memcpy"],
        "sensor_msgs_py_us": once["theirs"] * 1e6 if "theirs" in once else None,
    }  # fmt: skip


def _theirs(row: dict) -> str:
    if row["sensor_msgs_py_us"] is None:
        return "absent"
    return f"{'' if row['right'] else '(wrong) '}{row['sensor_msgs_py_us']:,.0f}"


def _message(layout: Layout, points: np.ndarray) -> PointCloud2:
    """points (N, 3), N a multiple of the layout's height; all fields but x, y and z are zero."""
    width = len(points) // layout.height
    rows = np.zeros((layout.height, width * layout.point_step + layout.padding), np.uint8)
    steps = rows[:, : width * layout.point_step].reshape(layout.height, width, layout.point_step)
    steps[..., :12] = points.view(np.uint8).reshape(layout.height, width, 12)
    rows[:, : width * layout.point_step] = steps.reshape(layout.height, -1)
    return PointCloud2(
        height=layout.height, width=width, point_step=layout.point_step, row_step=rows.shape[1], is_bigendian=False,
        fields=[PointField(**field._asdict()) for field in layout.fields], data=array.array("B", rows.tobytes()),
        is_dense=True,
    )  # fmt: skip


def _copied(message: PointCloud2) -> PointCloud2:
    names = ("height", "width", "point_step", "row_step", "is_bigendian", "fields", "is_dense")
    return PointCloud2(data=message.data[:], **{name: getattr(message, name) for name in names})


def _read_points(message: PointCloud2) -> np.ndarray:
    return np.ascontiguousarray(sensor_msgs_py.read_points_numpy(message, ["x", "y", "z"]))


def _create_cloud(fields, point_step, points, labels, confidence, intensity) -> PointCloud2:
    """The labelled cloud as one would make it with sensor_msgs_py."""
    structured = np.zeros(len(points), sensor_msgs_py.dtype_from_fields(fields, point_step))
    for name, column in zip("xyz", points.T, strict=True):
        structured[name] = column
    structured["intensity"], structured["label"], structured["confidence"] = intensity, labels, confidence
    red, green, blue = OUTDOOR.palette.astype(np.uint32).T
    structured["rgb"] = (red << 16 | green << 8 | blue).take(labels).view(np.float32)
    return sensor_msgs_py.create_cloud(Header(), fields, structured)


if __name__ == "__main__":
    command("clouds", __doc__, run, show)
