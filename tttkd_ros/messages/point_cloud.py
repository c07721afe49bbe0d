"""PointCloud2 to arrays, without ROS: any object with the message's attributes serves.

OpenCV's routines for pixel channels copy the coordinates: NumPy is several times slower on items of 12 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from tttkd_ros.messages.definitions import deserialise

# sensor_msgs/PointField: datatype -> NumPy type code without byte order
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
SIZES = {datatype: int(code[1]) for datatype, code in DATATYPES.items()}  # bytes
UINT8, UINT32, FLOAT32, FLOAT64 = 2, 6, 7, 8
MAX_CHANNELS = 128  # of a pixel in OpenCV 5 (512 in 4)


@dataclass(frozen=True, eq=False)
class Cloud:
    """points: (N, 3) float32, metres, C-contiguous, writable. features: (N,) or (N, C) float32 each, by the names of
    `tttkd_ros.features`, perhaps views of the message's memory."""

    points: np.ndarray
    features: Mapping[str, np.ndarray] = dataclass_field(default_factory=dict)

    @property
    def intensity(self) -> np.ndarray | None:
        """(N,), or None if the cloud has none."""
        return self.features.get("intensity")


class Field(NamedTuple):
    """A sensor_msgs/PointField. offset: bytes from the start of the point. datatype: a key of `DATATYPES`."""

    name: str
    offset: int
    datatype: int
    count: int


def read_cloud(cdr: bytes):
    """A serialised PointCloud2 as `decode_cloud` takes it, without a copy. Raises ValueError for other bytes."""
    return deserialise(cdr, "sensor_msgs/msg/PointCloud2")


def decode_cloud(msg, names: Iterable[str] = ("intensity",)) -> Cloud:
    """The points of a PointCloud2, and those of the named features that it has.

    "intensity" is the field of that name, as it is. "rgb" is the packed colour of the field rgb or rgba, in 0..1.
    "normal" is the fields normal_x, normal_y, normal_z. Other names are ignored (time: see `point_times`).
    Every point keeps its place, also those that are not finite. An organised cloud is flattened row by row.
    Raises ValueError if x, y or z is missing, a field does not fit the layout, or the data are too short.
    """
    layout = _Layout(msg)
    features = _features(layout, names)
    if not layout.size:  # drivers may leave the fields of an empty cloud unset
        return Cloud(np.zeros((0, 3), np.float32), features)
    axes, packed = layout.point.coordinates
    return Cloud(layout.points(axes, packed), features)


def decode_features(msg, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Those of the named features that a PointCloud2 has, see `decode_cloud`. Raises ValueError if one does not fit."""
    return _features(_Layout(msg), names)


def decode_field(msg, name: str) -> np.ndarray:
    """A field as (N,), in its own type and native byte order. Raises ValueError if it is missing or does not fit."""
    layout = _Layout(msg)
    field = layout.point.field(name)
    native = DATATYPES[field.datatype]
    return layout.column(field).astype(native, copy=False) if layout.size else np.zeros(0, native)


class _PointLayout:
    """The fields of a point. step: bytes per point. order: byte order, "<" or ">"."""

    def __init__(self, fields: tuple[Field, ...], step: int, order: str):
        self.step, self.order = step, order
        self.fields: dict[str, Field] = {}
        self._ambiguous: set[str] = set()
        for name, offset, datatype, count in fields:
            # Some drivers set count to 0 instead of 1.
            found = Field(name, int(offset), int(datatype), int(count) or 1)
            # Padding fields often share an empty name, so that is an error only if the field is asked for.
            if self.fields.setdefault(name, found) != found:
                self._ambiguous.add(name)

    def field(self, name: str) -> Field:
        """The scalar field of that name, checked to lie inside a point."""
        field = self.fields.get(name)
        if field is None:
            raise ValueError(f"cloud has no field {name!r}, only {', '.join(filter(None, self.fields)) or 'none'}")
        if name in self._ambiguous:
            raise ValueError(f"cloud field {name!r} is declared twice")
        if field.datatype not in DATATYPES:
            raise ValueError(f"cloud field {name!r} has unknown datatype {field.datatype}, expected 1 to 8")
        if field.count != 1:
            raise ValueError(f"cloud field {name!r} has count {field.count}, expected 1")
        if not 0 <= field.offset <= self.step - SIZES[field.datatype]:
            end = field.offset + SIZES[field.datatype]
            raise ValueError(f"cloud field {name!r} takes bytes {field.offset} to {end} of a point, expected them "
                             f"within its {self.step} bytes (point_step)")
        return field

    @cached_property
    def coordinates(self) -> tuple[list[Field], bool]:
        """The fields x, y and z, and whether they are adjacent float32 in that order."""
        axes = [self.field(name) for name in "xyz"]
        for field in axes:
            if field.datatype not in (FLOAT32, FLOAT64):
                raise ValueError(f"cloud field {field.name!r} has datatype {field.datatype}, expected FLOAT32 (7) or "
                                 "FLOAT64 (8) in metres: of whole numbers the unit is not known")
        intensity = self.field("intensity") if "intensity" in self.fields else None
        ordered = sorted([*axes, *filter(None, [intensity])], key=lambda field: field.offset)
        for first, second in zip(ordered, ordered[1:], strict=False):
            if first.offset + SIZES[first.datatype] > second.offset:
                raise ValueError(f"cloud fields {first.name!r} and {second.name!r} overlap: offsets {first.offset} and "
                                 f"{second.offset}, {first.name!r} takes {SIZES[first.datatype]} bytes")
        start = axes[0].offset
        packed = [(field.offset, field.datatype) for field in axes] == [(start + 4 * i, FLOAT32) for i in range(3)]
        return axes, packed


# The clouds of a sensor differ in their number of points, but share the layout of a point.
_point_layout = lru_cache(maxsize=64)(_PointLayout)


class _Layout:
    """The layout of a message, checked against the size of its data."""

    def __init__(self, msg):
        self.width, self.height, step = int(msg.width), int(msg.height), int(msg.point_step)
        self.size = self.width * self.height
        fields = tuple([(field.name, field.offset, field.datatype, field.count) for field in msg.fields])
        self.point = _point_layout(fields, step, ">" if msg.is_bigendian else "<")
        self.row_step = self._row_step(int(msg.row_step), len(msg.data))
        self.data = msg.data

    def _row_step(self, declared: int, size: int) -> int:
        """Bytes from one row to the next, by the size of the data: many drivers declare a wrong `row_step`."""
        if not self.size:
            if size:
                raise ValueError(f"cloud is {self.width} x {self.height} points (width, height), but its data hold "
                                 f"{size} bytes; expected both above 0, height 1 for an unorganised cloud")
            return 0
        row = self.width * self.point.step
        whole = self.height * row
        if declared > row and self.height > 1:
            if size >= (self.height - 1) * declared + row:  # the last row may lack its padding
                return declared
            if size != whole and declared != whole:
                raise ValueError(f"cloud data hold {size} bytes, expected {self.height * declared} (height "
                                 f"{self.height} * row_step {declared}), or {whole} without padding (width "
                                 f"{self.width} * point_step {self.point.step})")
        if size < whole:
            raise ValueError(f"cloud data hold {size} bytes, expected {whole} (width {self.width} * height "
                             f"{self.height} * point_step {self.point.step})")
        return row

    def points(self, axes: list[Field], packed: bool) -> np.ndarray:
        """(N, 3) float32, C-contiguous, native byte order, writable. Arguments: see `_PointLayout.coordinates`."""
        if packed:
            triples = self._triples(axes[0].offset).reshape(-1).view(self.point.order + "f4").reshape(-1, 3)
            # torch rejects arrays in foreign byte order or unaligned, and warns of read-only ones.
            flags = triples.flags
            usable = triples.dtype.isnative and flags.aligned and flags.writeable
            return triples if usable else np.require(triples, np.float32, ["C", "A", "W"])
        points = np.empty((self.size, 3), np.float32)
        for column, field in enumerate(axes):
            points[:, column] = self.column(field)
        return points

    def _triples(self, start: int) -> np.ndarray:
        """The 12 bytes at `start` of every point, one point after the other."""
        step = self.point.step
        words = step // 4
        if step == 12 or step < start + 16:
            triples = self._strided("V12", start)
            return triples if triples.strides == (self.width * 12, 12) else triples.copy()
        # OpenCV takes padded rows, but no padded pixels. So a pixel is either the whole point, with one channel per
        # word, or the 16 bytes at `start`, as four channels of which the first three are copied.
        if step > 16 and step % 4 == 0 and start % 4 == 0 and words <= MAX_CHANNELS:
            first = start // 4
            triples = np.empty((self.height, self.width, 3), np.float32)
            cv2.mixChannels([self._strided("f4", 0, words)], [triples], [first, 0, first + 1, 1, first + 2, 2])
            return triples
        quads = np.ascontiguousarray(self._strided("V16", start)).view(np.float32).reshape(1, -1, 4)
        return cv2.cvtColor(quads, cv2.COLOR_BGRA2BGR)

    def values(self, name: str) -> np.ndarray:
        """A field as `column`; empty for a cloud without points, whose fields drivers may leave unset."""
        return self.column(self.point.field(name)) if self.size else np.zeros(0, np.float32)

    def column(self, field: Field) -> np.ndarray:
        """(N,) in the message's own type; a view if the rows have no padding."""
        return self._strided(self.point.order + DATATYPES[field.datatype], field.offset).reshape(-1)

    def _strided(self, dtype: str, offset: int, words: int = 0) -> np.ndarray:
        """(height, width): a value of each point; (height, width, words): its words from `offset` on."""
        shape, strides = (self.height, self.width), (self.row_step, self.point.step)
        if words:
            shape, strides = (*shape, words), (*strides, 4)
        return np.ndarray(shape, dtype, np.frombuffer(self.data, np.uint8), offset, strides)


def _features(layout: _Layout, names: Iterable[str]) -> dict[str, np.ndarray]:
    found = {name: read(layout) for name, read in _FEATURES.items() if name in names}
    return {name: values for name, values in found.items() if values is not None}


def _intensity(layout: _Layout) -> np.ndarray | None:
    if "intensity" not in layout.point.fields:
        return None
    return layout.values("intensity").astype(np.float32, copy=False)


def _colour(layout: _Layout) -> np.ndarray | None:
    name = next((name for name in ("rgb", "rgba") if name in layout.point.fields), None)
    if name is None:
        return None
    if layout.size and SIZES[datatype := layout.point.field(name).datatype] != 4:
        raise ValueError(f"cloud field {name!r} has datatype {datatype}, expected UINT32 (6) or FLOAT32 (7) with the "
                         "bytes of a packed colour")
    words = layout.values(name).view("<u4" if layout.values(name).dtype.isnative else ">u4").astype(np.uint32)
    return np.stack([words >> shift & 255 for shift in (16, 8, 0)], 1).astype(np.float32) / 255


def _normal(layout: _Layout) -> np.ndarray | None:
    names = ("normal_x", "normal_y", "normal_z")
    if not all(name in layout.point.fields for name in names):
        return None
    return np.stack([layout.values(name) for name in names], 1).astype(np.float32)


_FEATURES = {"intensity": _intensity, "rgb": _colour, "normal": _normal}
