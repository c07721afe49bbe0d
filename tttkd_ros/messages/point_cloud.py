"""PointCloud2 to arrays and back, without ROS: any object with the message's attributes serves.

Both ways copy a point's x, y, z as one 12-byte item, and encoding goes block by block so that a block's columns are
written while it is in the cache: that keeps both close to the speed of a memcpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# sensor_msgs/PointField: datatype -> NumPy type code without byte order
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
UINT8, FLOAT32 = 2, 7
BLOCK = 8192  # points encoded at a time: 8192 * 28 bytes stay in a core's second-level cache


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

    data: (width * point_step,) uint8, C-contiguous.
    """

    fields: tuple[Field, ...]
    point_step: int
    data: np.ndarray
    width: int


def decode_cloud(msg) -> Cloud:
    """Points, and intensity and label where the cloud has them, of a PointCloud2.

    Every point keeps its place, those that are not finite too; an organised cloud is flattened row by row, row padding
    left out. Only x, y, z are copied, and they only if something lies between them. Raises ValueError for a cloud
    without x, y, z, for fields that do not fit the layout, and for data that are too short.
    """
    layout = _Layout(msg)
    label = layout.fields.get("label")
    has_intensity, has_label = "intensity" in layout.fields, label is not None and label.datatype == UINT8
    if not layout.size:  # drivers may leave the rest of an empty cloud unset
        empty = np.zeros(0, np.float32), np.zeros(0, np.uint8)
        return Cloud(np.zeros((0, 3), np.float32), empty[0] if has_intensity else None, empty[1] if has_label else None)
    axes = [layout.field(name) for name in "xyz"]
    for field in axes:
        if field.datatype not in (7, 8):
            raise ValueError(f"cloud field {field.name!r} has datatype {field.datatype}, expected FLOAT32 or FLOAT64")
    intensity = layout.field("intensity") if has_intensity else None
    label = layout.field("label") if has_label else None
    _check_apart([*axes, *(field for field in (intensity, label) if field is not None)])
    return Cloud(
        layout.points(axes),
        None if intensity is None else layout.column(intensity).astype(np.float32, copy=False),
        None if label is None else layout.column(label),
    )


def decode_field(msg, name: str) -> np.ndarray:
    """(N,) the field of that name in its own type and native byte order. Raises ValueError as `decode_cloud` does."""
    layout = _Layout(msg)
    field = layout.field(name)
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
    size = len(points)
    if points.shape != (size, 3):
        raise ValueError(f"points have shape {points.shape}, expected (N, 3)")
    for name, values in (("labels", labels), ("confidence", confidence), ("intensity", intensity)):
        if values is not None and values.shape != (size,):
            raise ValueError(f"{name} have shape {values.shape}, expected ({size},): one for each point")
    if labels.dtype != np.uint8:
        raise ValueError(f"labels are {labels.dtype}, expected uint8")
    if palette.shape != (256, 3):
        raise ValueError(f"the palette has shape {palette.shape}, expected (256, 3): a colour for every uint8 label")

    red, green, blue = palette.astype("<u4").T
    packed = (red << 16 | green << 8 | blue).astype("<u4")  # RViz and PCL read the bits of a float32 `rgb` so
    # Columns are whole 32-bit words: the label's byte comes first (little-endian), its three padding bytes are zero.
    columns = [("label", UINT8, labels, "<u4"), ("confidence", FLOAT32, confidence, "<f4")]
    if intensity is not None:
        columns.insert(0, ("intensity", FLOAT32, intensity, "<f4"))
    point_step = 12 + 4 * len(columns) + 4
    words = np.empty((size, point_step // 4), "<u4")
    xyz = np.ndarray((size,), "V12", words.data, strides=(point_step,)) if size else np.empty(0, "V12")
    source = np.ascontiguousarray(points, "<f4").reshape(-1).view("V12")
    for start in range(0, size, BLOCK):
        block = slice(start, start + BLOCK)
        xyz[block] = source[block]
        for index, (_, _, values, word) in enumerate(columns, 3):
            words.view(word)[block, index] = values[block]
        words[block, -1] = packed.take(labels[block])

    axes = [(name, FLOAT32) for name in "xyz"]
    declared = [*axes, *((name, datatype) for name, datatype, *_ in columns), ("rgb", FLOAT32)]
    fields = tuple(Field(name, 4 * index, datatype, 1) for index, (name, datatype) in enumerate(declared))
    return CloudBytes(fields, point_step, words.reshape(-1).view(np.uint8), size)


def encode_points(points: np.ndarray, intensity: np.ndarray | None = None) -> CloudBytes:
    """A plain sweep: x, y, z and, if given, intensity, all float32. points (N, 3), intensity (N,)."""
    columns = [points] if intensity is None else [points, intensity[:, None]]
    data = np.ascontiguousarray(np.concatenate(columns, axis=1), "<f4")
    names = ["x", "y", "z", "intensity"][: data.shape[1]]
    fields = tuple(Field(name, 4 * index, FLOAT32, 1) for index, name in enumerate(names))
    return CloudBytes(fields, 4 * len(names), data.reshape(-1).view(np.uint8), len(data))


class _Layout:
    """A message's declared layout, checked against its data once; `points` and `column` then only stride through it."""

    def __init__(self, msg):
        self.width, self.height, self.point_step = int(msg.width), int(msg.height), int(msg.point_step)
        self.size = self.width * self.height
        self.order = ">" if msg.is_bigendian else "<"
        self.fields: dict[str, Field] = {}
        for field in msg.fields:
            if field.name in self.fields:
                raise ValueError(f"cloud field {field.name!r} is declared twice")
            # Some drivers leave count at 0 where they mean 1.
            self.fields[field.name] = Field(field.name, int(field.offset), int(field.datatype), int(field.count) or 1)
        row = self.width * self.point_step
        # Only the step from one row to the next matters: the single row of an unorganised cloud may leave it unset.
        self.row_step = int(msg.row_step) if self.height > 1 else row
        if self.size and self.row_step < row:
            raise ValueError(
                f"cloud row_step is {self.row_step}, expected at least width * point_step = {self.width} * "
                f"{self.point_step} = {row}"
            )
        if self.size and len(msg.data) < self.height * self.row_step:
            raise ValueError(
                f"cloud data hold {len(msg.data)} bytes, expected {self.height * self.row_step} "
                f"(height {self.height} * row step {self.row_step})"
            )
        self.data = msg.data

    def field(self, name: str) -> Field:
        """The scalar field of that name, checked to lie inside a point."""
        field = self.fields.get(name)
        if field is None:
            raise ValueError(f"cloud has no field {name!r}, only {', '.join(self.fields) or 'none'}")
        if field.datatype not in DATATYPES:
            raise ValueError(f"cloud field {name!r} has unknown datatype {field.datatype}, expected 1 to 8")
        if field.count != 1:
            raise ValueError(f"cloud field {name!r} has count {field.count}, expected 1")
        if not 0 <= field.offset <= self.point_step - _size(field):
            raise ValueError(
                f"cloud field {name!r} takes bytes {field.offset} to {field.offset + _size(field)} of a point, "
                f"expected them within its {self.point_step} bytes (point_step)"
            )
        return field

    def points(self, axes: list[Field]) -> np.ndarray:
        """(N, 3) float32, C-contiguous, native byte order, writable."""
        start = axes[0].offset
        packed = [(field.offset, field.datatype) for field in axes] == [(start + 4 * i, FLOAT32) for i in range(3)]
        if packed:
            triples = self._strided("V12", start)
            triples = triples if triples.strides == (self.width * 12, 12) else triples.copy()
            native = triples.reshape(-1).view(self.order + "f4").reshape(-1, 3)
            # torch refuses arrays in foreign byte order or off their alignment, and warns of read-only ones.
            return np.require(native, np.float32, ["C", "A", "W"])
        points = np.empty((self.size, 3), np.float32)
        for column, field in enumerate(axes):
            points[:, column] = self.column(field)
        return points

    def column(self, field: Field) -> np.ndarray:
        """(N,) in the message's own type; a view wherever the rows lie evenly."""
        return self._strided(self.order + DATATYPES[field.datatype], field.offset).reshape(-1)

    def _strided(self, dtype: str, offset: int) -> np.ndarray:
        buffer = np.frombuffer(self.data, np.uint8)
        return np.ndarray((self.height, self.width), dtype, buffer, offset, (self.row_step, self.point_step))


def _size(field: Field) -> int:
    return np.dtype(DATATYPES[field.datatype]).itemsize


def _check_apart(fields: list[Field]) -> None:
    """Raise ValueError where two fields share bytes."""
    ordered = sorted(fields, key=lambda field: field.offset)
    for before, after in zip(ordered, ordered[1:], strict=False):
        if before.offset + _size(before) > after.offset:
            raise ValueError(
                f"cloud fields {before.name!r} and {after.name!r} overlap: offsets {before.offset} and {after.offset}, "
                f"{before.name!r} takes {_size(before)} bytes"
            )
