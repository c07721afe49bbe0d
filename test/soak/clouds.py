"""An endless sequence of sweeps that follows from a seed. Most are valid, many are damaged.

The sender and the checker of the answers make the same sequence. A sweep's number is in its frame id, which the answer
repeats, because stamps may repeat and clouds may be empty.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from .common import SECOND, draw, headed

FRAME = "lidar_"
NAMES = ("x", "y", "z", "intensity")
DEFAULT_POINTS = 400  # points
BURST = 60  # sweeps sent without delay

Cloud = PointCloud2 | bytes  # bytes: a serialised message, which need not be one


@dataclass(frozen=True)
class Sweep:
    """A sweep to send, and what the node should answer."""

    number: int
    kinds: tuple[str, ...]  # of damage
    stamp: int  # nanoseconds
    message: Cloud
    expected: np.ndarray | None  # (N, 3), the points of the answer; None if the node cannot answer
    at_once: bool  # in a burst, sent without delay


def sweeps(seed: int, period: int, mean_points: int = DEFAULT_POINTS) -> Iterator[Sweep]:
    """Yield sweeps without end, `period` nanoseconds apart."""
    clock, number, burst = 1000 * SECOND, 0, 0
    while True:
        generator = np.random.default_rng((seed, number))
        clock += period
        time_kind = draw(generator, STAMPS, 0.95)
        stamp, clock = STAMPS[time_kind](generator, clock, period)
        cloud_kind = draw(generator, CLOUDS)
        plain = cloud(points(generator, mean_points), stamp, f"{FRAME}{number}")
        message, expected = CLOUDS[cloud_kind](generator, plain)
        burst = burst - 1 if burst else BURST * (generator.random() < 1 / 400)
        kinds = cloud_kind, time_kind, *(["burst"] if burst == BURST else [])
        yield Sweep(number, kinds, stamp, message, expected, burst > 0)
        number += 1


def cloud(points: np.ndarray, stamp: int, frame: str, names=NAMES) -> PointCloud2:
    """points: (N, len(names)) float32."""
    message = PointCloud2(height=1, width=len(points), point_step=4 * len(names), row_step=points.nbytes)
    message.fields = [PointField(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate(names)]
    message.data = array.array("B", points.tobytes())
    return headed(message, stamp, frame)


def points(generator: np.random.Generator, mean_points: int = DEFAULT_POINTS) -> np.ndarray:
    """Return (N, 4) around the vehicle. N is about `mean_points`, in 2 per cent 1 and in 2 per cent large."""
    counts = 1, generator.integers(mean_points // 4, mean_points * 7 // 4), max(6000, 2 * mean_points)
    count = int(generator.choice(counts, p=(0.02, 0.96, 0.02)))
    return generator.uniform((-20, -20, -1.5, 0), (20, 20, 1.5, 1), (count, 4)).astype(np.float32)


# Stamps: that of the sweep, and the clock from which the next sweep continues.

STAMPS: dict[str, Callable[[np.random.Generator, int, int], tuple[int, int]]] = {
    "in time": lambda generator, clock, period: (clock, clock),
    "stamp twice": lambda generator, clock, period: (clock - period, clock - period),
    "stamp late": lambda generator, clock, period: (max(0, clock - int(generator.integers(1, 5 * SECOND))), clock),
    "stamp of the far future": lambda generator, clock, period: (2**31 * SECOND - 1, clock),
    "stamp before 1970": lambda generator, clock, period: (-SECOND, clock),
    "stamp zero": lambda generator, clock, period: (0, clock),
    "bag loop": lambda generator, clock, period: (1000 * SECOND, 1000 * SECOND),
    "jump ahead": lambda generator, clock, period: (clock + 30 * SECOND, clock + 30 * SECOND),
    "jump back": lambda generator, clock, period: (max(0, clock - 10 * SECOND), max(0, clock - 10 * SECOND)),
}


# Clouds: from a valid one to the message that is sent and the points of its answer.

Damaged = tuple[Cloud, np.ndarray | None]


def _table(message: PointCloud2) -> np.ndarray:
    return np.frombuffer(message.data, np.float32).reshape(-1, 4)


def _with(message: PointCloud2, points: np.ndarray, names=NAMES) -> Damaged:
    header = message.header
    message = cloud(points, 0, "", names)
    message.header = header
    return message, points[:, :3]


def _organised(generator, message) -> Damaged:
    points = _table(message)
    half = len(points) // 2
    message.height, message.width, message.row_step = 2, half, 16 * half + 6
    message.data = array.array("B", b"".join(row.tobytes() + b"\xff" * 6 for row in points[: 2 * half].reshape(2, -1)))
    return message, points[: 2 * half, :3]


def _big_endian(generator, message) -> Damaged:
    points = _table(message)
    message.is_bigendian, message.data = True, array.array("B", points.astype(">f4").tobytes())
    return message, points[:, :3]


def _not_finite(generator, message) -> Damaged:
    points = _table(message).copy()
    points[generator.random(points.shape) < 0.1] = generator.choice((np.nan, np.inf, -np.inf))
    return _with(message, points)


def _empty_but_wide(generator, message) -> Damaged:
    message, points = _with(message, np.zeros((0, 4), np.float32))
    message.height, message.width = 0, 2**32 - 1
    return message, points


def _undecodable(change: Callable[[np.random.Generator, PointCloud2], object]) -> Callable[..., Damaged]:
    def damage(generator, message) -> Damaged:
        change(generator, message)
        return message, None

    return damage


def _set(**values) -> Callable[..., Damaged]:
    return _undecodable(lambda generator, message: [setattr(message, name, value) for name, value in values.items()])


def _fields(*fields: tuple[str, int, int]) -> Callable[..., Damaged]:
    made = [PointField(name=name, offset=offset, datatype=datatype, count=1) for name, offset, datatype in fields]
    return _set(fields=made)


def _truncated(generator, message) -> None:
    message.data = message.data[: int(generator.integers(0, len(message.data)))]


CLOUDS: dict[str, Callable[[np.random.Generator, PointCloud2], Damaged]] = {
    "plain": lambda generator, message: (message, _table(message)[:, :3]),
    "no intensity": lambda generator, message: _with(message, _table(message)[:, :3].copy(), NAMES[:3]),
    "organised": _organised,
    "big-endian": _big_endian,
    "not finite": _not_finite,
    "out of reach": lambda generator, message: _with(message, _table(message) * np.float32(1e30)),
    "empty": lambda generator, message: _with(message, np.zeros((0, 4), np.float32)),
    "empty but wide": _empty_but_wide,
    "truncated": _undecodable(_truncated),
    "no z": _fields(("x", 0, 7), ("y", 4, 7)),
    "no fields": _fields(),
    "unknown type": _fields(("x", 0, 7), ("y", 4, 99), ("z", 8, 7)),
    "integer z": _fields(("x", 0, 7), ("y", 4, 7), ("z", 8, 5)),
    "fields overlap": _fields(("x", 0, 7), ("y", 2, 7), ("z", 8, 7)),
    "field twice": _fields(("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("x", 12, 7)),
    "field outside": _fields(("x", 0, 7), ("y", 4, 7), ("z", 4_000_000_000, 7)),
    "step too short": _set(point_step=8),
    "step zero": _set(point_step=0, row_step=0),
    "huge claim": _set(width=2**32 - 1, height=2**32 - 1, row_step=2**32 - 1),
    "no message": lambda generator, message: (generator.bytes(int(generator.integers(0, 200))), None),
}
