"""PointCloud2 to arrays and back, without ROS: any object with the message's attributes serves.

Either way is little more than copying. OpenCV's routines for the channels of pixels do it for those of points, because
NumPy takes several times as long over items of 12 bytes.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from tttkd_ros.messages.definitions import deserialise

# sensor_msgs/PointField: datatype -> NumPy type code without byte order
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
SIZES = {datatype: int(code[1]) for datatype, code in DATATYPES.items()}  # bytes
UINT8, UINT32, FLOAT32 = 2, 6, 7
CHANNELS = 128  # that a pixel may have in OpenCV 5 (512 in 4)


@dataclass(frozen=True, eq=False)
class Cloud:
    """points: (N, 3) float32, C-contiguous, writable. intensity: (N,) float32. label: (N,) uint8, from a UINT8 field.

    intensity and label may be views that stride through the message's own memory.
    """

    points: np.ndarray
    intensity: np.ndarray | None = None
    label: np.ndarray | None = None


class Field(NamedTuple):
    """As sensor_msgs/PointField: bytes from the start of the point, and a key of `DATATYPES`."""

    name: str
    offset: int
    datatype: int
    count: int


@dataclass(frozen=True, eq=False)
class CloudBytes:
    """What a PointCloud2 needs beside its header: little-endian, one row, no padding between points.

    buffer: width * point_step bytes, in the container that rclpy's messages have.
    """

    fields: tuple[Field, ...]
    point_step: int
    buffer: array.array
    width: int

    @property
    def data(self) -> np.ndarray:
        """The buffer's memory as (width * point_step,) uint8, which rosbags' messages have."""
        return np.frombuffer(self.buffer, np.uint8)

    def padded(self, point_step: int) -> CloudBytes:
        """With unused bytes after each point, as of drivers with more fields. Raises ValueError if it has more already.
        """
        if point_step < self.point_step:
            raise ValueError(f"point_step is {point_step}, expected at least the {self.point_step} bytes of the fields")
        points = np.zeros((self.width, point_step), np.uint8)
        points[:, : self.point_step] = self.data.reshape(self.width, self.point_step)
        return CloudBytes(self.fields, point_step, array.array("B", points.tobytes()), self.width)


def read_cloud(cdr: bytes):
    """A serialised PointCloud2 as `decode_cloud` takes it, its data not copied. Raises ValueError for other bytes."""
    return deserialise(cdr, "sensor_msgs/msg/PointCloud2")


def decode_cloud(msg) -> Cloud:
    """Points, and intensity and label where the cloud has them, of a PointCloud2.

    Every point keeps its place, those that are not finite too; an organised cloud is flattened row by row, row padding
    left out. Only x, y, z are copied, and they only if something lies between them. Raises ValueError for a cloud
    without x, y, z, for fields that do not fit the layout, and for data that are too short.
    """
    layout = _Layout(msg)
    point = layout.point
    if not layout.size:  # drivers may leave the rest of an empty cloud unset
        return Cloud(
            np.zeros((0, 3), np.float32),
            np.zeros(0, np.float32) if point.has_intensity else None,
            np.zeros(0, np.uint8) if point.has_label else None,
        )
    axes, packed, intensity, label = point.wanted
    return Cloud(
        layout.points(axes, packed),
        None if intensity is None else layout.column(intensity).astype(np.float32, copy=False),
        None if label is None else layout.column(label),
    )


def decode_field(msg, name: str) -> np.ndarray:
    """(N,) the field of that name in its own type and native byte order. Raises ValueError as `decode_cloud` does."""
    layout = _Layout(msg)
    field = layout.point.field(name)
    native = DATATYPES[field.datatype]
    return layout.column(field).astype(native, copy=False) if layout.size else np.zeros(0, native)


def encode_labelled(
    points: np.ndarray,
    labels: np.ndarray,
    confidence: np.ndarray,
    palette: np.ndarray,
    intensity: np.ndarray | None = None,
) -> CloudBytes:
    """The labelled cloud: x, y, z, intensity if given, label (UINT8), confidence and packed rgb, each 4 bytes apart.

    points (N, 3), labels (N,) uint8, confidence (N,), palette (256, 3) uint8 RGB, intensity (N,). Raises ValueError
    where lengths or types differ from that.
    """
    size = _common_size(points, labels=labels, confidence=confidence, intensity=intensity)
    if labels.dtype != np.uint8:
        raise ValueError(f"labels are {labels.dtype}, expected uint8")
    if palette.shape != (256, 3):
        raise ValueError(f"the palette has shape {palette.shape}, expected (256, 3): a colour for every uint8 label")

    columns = {("x", "y", "z"): points, ("intensity",): intensity, ("confidence",): confidence}
    if size:
        words = cv2.LUT(np.ascontiguousarray(labels), _label_words(palette.tobytes()))
        columns["label", "rgb"] = words.view(np.float32).reshape(size, 2)
    return _interleaved(("x", "y", "z", "intensity", "label", "confidence", "rgb"), columns, size)


def encode_points(points: np.ndarray, intensity: np.ndarray | None = None) -> CloudBytes:
    """A plain sweep: x, y, z and, if given, intensity, all float32. points (N, 3), intensity (N,), or ValueError."""
    columns = {("x", "y", "z"): points, ("intensity",): intensity}
    return _interleaved(("x", "y", "z", "intensity"), columns, _common_size(points, intensity=intensity))


def _common_size(points: np.ndarray, **columns: np.ndarray | None) -> int:
    """N of points (N, 3) and columns (N,), or ValueError."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {points.shape}, expected (N, 3)")
    for name, values in columns.items():
        if values is not None and values.shape != (len(points),):
            raise ValueError(f"{name} have shape {values.shape}, expected ({len(points)},): one for each point")
    return len(points)


def _interleaved(names: tuple[str, ...], columns: dict[tuple[str, ...], np.ndarray | None], size: int) -> CloudBytes:
    """A field of four bytes for each name. columns: (size, k) or (size,) by their k names; None: no such field."""
    if columns["intensity",] is None:
        names = tuple(name for name in names if name != "intensity")
    buffer = array.array("B", [0]) * (size * 4 * len(names))
    if size:
        given = {fields: values for fields, values in columns.items() if values is not None}
        channels = [names.index(name) for fields in given for name in fields]
        cv2.mixChannels(
            [np.ascontiguousarray(values, "<f4").reshape(1, size, -1) for values in given.values()],
            [np.frombuffer(buffer, "<f4").reshape(1, size, -1)],
            [number for pair in enumerate(channels) for number in pair],
        )
    fields = tuple(Field(name, 4 * index, UINT8 if name == "label" else FLOAT32, 1) for index, name in enumerate(names))
    return CloudBytes(fields, 4 * len(names), buffer, size)


@lru_cache(maxsize=8)
def _label_words(palette: bytes) -> np.ndarray:
    """(256,) of eight bytes, for every label: its word (the label, then three zero bytes) and its colour's."""
    red, green, blue = np.frombuffer(palette, np.uint8).reshape(256, 3).astype("<u4").T
    packed = red << 16 | green << 8 | blue  # RViz and PCL read the bits of a float32 `rgb` so
    return np.stack([np.arange(256), packed], 1).astype("<u4").view(np.float64).reshape(-1)


class _Point:
    """How the fields of a cloud lie in each of its points. order: of bytes, "<" or ">"."""

    def __init__(self, fields: tuple[Field, ...], step: int, order: str):
        self.step, self.order = step, order
        self.fields: dict[str, Field] = {}
        self._ambiguous: set[str] = set()
        for name, offset, datatype, count in fields:
            # Some drivers leave count at 0 where they mean 1.
            field = Field(name, int(offset), int(datatype), int(count) or 1)
            if self.fields.setdefault(name, field) != field:
                self._ambiguous.add(name)  # padding has no name, so often; what matters is whether one is asked for
        label = self.fields.get("label")
        self.has_intensity = "intensity" in self.fields
        self.has_label = label is not None and label.datatype == UINT8

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
            raise ValueError(
                f"cloud field {name!r} takes bytes {field.offset} to {field.offset + SIZES[field.datatype]} of a "
                f"point, expected them within its {self.step} bytes (point_step)"
            )
        return field

    @cached_property
    def wanted(self) -> tuple[list[Field], bool, Field | None, Field | None]:
        """x, y and z, and whether they are float32 and next to one another in that order; intensity; label."""
        axes = [self.field(name) for name in "xyz"]
        for field in axes:
            if field.datatype not in (7, 8):
                raise ValueError(
                    f"cloud field {field.name!r} has datatype {field.datatype}, expected FLOAT32 (7) or FLOAT64 (8) "
                    "in metres: of whole numbers the unit is not known"
                )
        intensity = self.field("intensity") if self.has_intensity else None
        label = self.field("label") if self.has_label else None
        _check_apart([*axes, *(field for field in (intensity, label) if field is not None)])
        start = axes[0].offset
        packed = [(field.offset, field.datatype) for field in axes] == [(start + 4 * i, FLOAT32) for i in range(3)]
        return axes, packed, intensity, label

    def column(self, field: Field) -> str:
        """NumPy's type of a field."""
        return self.order + DATATYPES[field.datatype]


# A sensor's clouds differ in their number of points, seldom in these: what follows from them is worked out once.
_point = lru_cache(maxsize=64)(_Point)


class _Layout:
    """A message's declared layout, checked against its data once; `points` and `column` then only stride through it."""

    def __init__(self, msg):
        self.width, self.height, step = int(msg.width), int(msg.height), int(msg.point_step)
        self.size = self.width * self.height
        fields = tuple([(field.name, field.offset, field.datatype, field.count) for field in msg.fields])
        self.point = _point(fields, step, ">" if msg.is_bigendian else "<")
        self.row_step = self._row_step(int(msg.row_step), len(msg.data))
        self.data = msg.data

    def _row_step(self, declared: int, size: int) -> int:
        """Bytes from one row to the next, by the size of the data rather than by `row_step`.

        Many drivers set `row_step` to 0, to the bytes of a point, to the number of points or to the bytes of all rows.

        declared: `row_step`. size: bytes of the data. Raises ValueError for data that do not hold the points.
        """
        if not self.size:
            if size:
                raise ValueError(
                    f"cloud is {self.width} x {self.height} points (width, height), but its data hold {size} bytes; "
                    "expected both above 0, height 1 for an unorganised cloud"
                )
            return 0
        row = self.width * self.point.step
        whole = self.height * row
        if declared > row and self.height > 1:
            if size >= (self.height - 1) * declared + row:  # the last row may lack its padding
                return declared
            if size != whole and declared != whole:
                raise ValueError(
                    f"cloud data hold {size} bytes, expected {self.height * declared} (height {self.height} * row_step "
                    f"{declared}), or {whole} without padding (width {self.width} * point_step {self.point.step})"
                )
        if size < whole:
            raise ValueError(
                f"cloud data hold {size} bytes, expected {whole} (width {self.width} * height {self.height} * "
                f"point_step {self.point.step})"
            )
        return row

    def points(self, axes: list[Field], packed: bool) -> np.ndarray:
        """(N, 3) float32, C-contiguous, native byte order, writable. axes, packed: as `_Point.wanted` has them."""
        if packed:
            triples = self._triples(axes[0].offset).reshape(-1).view(self.point.order + "f4").reshape(-1, 3)
            # torch refuses arrays in foreign byte order or off their alignment, and warns of read-only ones.
            flags = triples.flags
            sound = triples.dtype.isnative and flags.aligned and flags.writeable
            return triples if sound else np.require(triples, np.float32, ["C", "A", "W"])
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
        # A point is a pixel: with the four bytes that follow, of four channels, the first three of them wanted; or as
        # it is, of a channel for every word. OpenCV takes padded rows, but no padded pixels.
        if step > 16 and step % 4 == 0 and start % 4 == 0 and words <= CHANNELS:
            first = start // 4
            triples = np.empty((self.height, self.width, 3), np.float32)
            cv2.mixChannels([self._strided("f4", 0, words)], [triples], [first, 0, first + 1, 1, first + 2, 2])
            return triples
        quads = np.ascontiguousarray(self._strided("V16", start)).view(np.float32).reshape(1, -1, 4)
        return cv2.cvtColor(quads, cv2.COLOR_BGRA2BGR)

    def column(self, field: Field) -> np.ndarray:
        """(N,) in the message's own type; a view wherever the rows lie evenly."""
        return self._strided(self.point.column(field), field.offset).reshape(-1)

    def _strided(self, dtype: str, offset: int, words: int = 0) -> np.ndarray:
        """(height, width) of a value of each point, or (height, width, words) of its words from `offset` on."""
        buffer = np.frombuffer(self.data, np.uint8)
        shape, strides = (self.height, self.width), (self.row_step, self.point.step)
        if words:
            shape, strides = (*shape, words), (*strides, 4)
        return np.ndarray(shape, dtype, buffer, offset, strides)


def _check_apart(fields: list[Field]) -> None:
    """Raise ValueError where two fields share bytes."""
    ordered = sorted(fields, key=lambda field: field.offset)
    for before, after in zip(ordered, ordered[1:], strict=False):
        if before.offset + SIZES[before.datatype] > after.offset:
            raise ValueError(
                f"cloud fields {before.name!r} and {after.name!r} overlap: offsets {before.offset} and {after.offset}, "
                f"{before.name!r} takes {SIZES[before.datatype]} bytes"
            )
