"""Arrays to PointCloud2, without ROS."""

from __future__ import annotations

import array
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from tttkd_ros.messages.point_cloud import FLOAT32, UINT8, Field


@dataclass(frozen=True, eq=False)
class CloudBytes:
    """A PointCloud2 without its header: little-endian, one row, no padding. buffer: width * point_step bytes."""

    fields: tuple[Field, ...]
    point_step: int
    buffer: array.array
    width: int

    @property
    def data(self) -> np.ndarray:
        """The buffer's memory as (width * point_step,) uint8, the type in rosbags' messages."""
        return np.frombuffer(self.buffer, np.uint8)

    def padded(self, point_step: int) -> CloudBytes:
        """A copy with `point_step` bytes per point, zeros behind the fields. Raises ValueError if these need more."""
        if point_step < self.point_step:
            raise ValueError(f"point_step is {point_step}, expected at least the {self.point_step} bytes of the fields")
        points = np.zeros((self.width, point_step), np.uint8)
        points[:, : self.point_step] = self.data.reshape(self.width, self.point_step)
        return CloudBytes(self.fields, point_step, array.array("B", points.tobytes()), self.width)


def encode_labelled(points: np.ndarray, labels: np.ndarray, confidence: np.ndarray, palette: np.ndarray,
                    intensity: np.ndarray | None = None, seen: np.ndarray | None = None) -> CloudBytes:
    """The labelled cloud: x, y, z, intensity if given, label (UINT8), confidence and packed rgb, each 4 bytes apart.

    seen, if given, is a UINT8 behind the label: 1 if the label rests on an image, too, else 0.

    points: (N, 3), metres. labels: (N,) uint8. confidence, intensity: (N,). palette: (256, 3) uint8, RGB. seen: (N,)
    bool. Raises ValueError for another shape or type.
    """
    size = _common_size(points, labels=labels, confidence=confidence, intensity=intensity, seen=seen)
    if labels.dtype != np.uint8:
        raise ValueError(f"labels are {labels.dtype}, expected uint8")
    if palette.shape != (256, 3):
        raise ValueError(f"the palette has shape {palette.shape}, expected (256, 3): a colour for every uint8 label")
    columns = {("x", "y", "z"): points, ("intensity",): intensity, ("confidence",): confidence}
    if size:
        words = cv2.LUT(np.ascontiguousarray(labels), _label_words(palette.tobytes()))
        if seen is not None:
            words.view(np.uint8).reshape(size, 8)[:, 1] = seen
        columns["label", "rgb"] = words.view(np.float32).reshape(size, 2)
    cloud = _interleave(("x", "y", "z", "intensity", "label", "confidence", "rgb"), columns, size)
    if seen is None:
        return cloud
    (label,) = (field for field in cloud.fields if field.name == "label")
    return replace(cloud, fields=(*cloud.fields, Field("seen", label.offset + 1, UINT8, 1)))


def encode_points(points: np.ndarray, intensity: np.ndarray | None = None) -> CloudBytes:
    """A float32 cloud of points (N, 3), metres, and intensity (N,) if given. Raises ValueError for other shapes."""
    columns = {("x", "y", "z"): points, ("intensity",): intensity}
    return _interleave(("x", "y", "z", "intensity"), columns, _common_size(points, intensity=intensity))


def _common_size(points: np.ndarray, **columns: np.ndarray | None) -> int:
    """N of points (N, 3) and columns (N,). Raises ValueError for other shapes."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {points.shape}, expected (N, 3)")
    for name, values in columns.items():
        if values is not None and values.shape != (len(points),):
            raise ValueError(f"{name} have shape {values.shape}, expected ({len(points)},): one for each point")
    return len(points)


def _interleave(names: tuple[str, ...], columns: dict[tuple[str, ...], np.ndarray | None], size: int) -> CloudBytes:
    """A field of four bytes for each name. columns: names -> (size, number of names) or (size,); None for no field."""
    if columns["intensity",] is None:
        names = tuple(name for name in names if name != "intensity")
    buffer = array.array("B", [0]) * (size * 4 * len(names))
    if size:
        given = {fields: values for fields, values in columns.items() if values is not None}
        channels = [names.index(name) for fields in given for name in fields]
        sources = [np.ascontiguousarray(values, "<f4").reshape(1, size, -1) for values in given.values()]
        target = np.frombuffer(buffer, "<f4").reshape(1, size, -1)
        cv2.mixChannels(sources, [target], [number for pair in enumerate(channels) for number in pair])
    fields = tuple(Field(name, 4 * index, UINT8 if name == "label" else FLOAT32, 1) for index, name in enumerate(names))
    return CloudBytes(fields, 4 * len(names), buffer, size)


@lru_cache(maxsize=8)
def _label_words(palette: bytes) -> np.ndarray:
    """(256,) of eight bytes for each label: the label, three zero bytes, and its packed colour."""
    red, green, blue = np.frombuffer(palette, np.uint8).reshape(256, 3).astype("<u4").T
    packed = red << 16 | green << 8 | blue  # RViz and PCL read the bits of a float32 `rgb` this way
    return np.stack([np.arange(256), packed], 1).astype("<u4").view(np.float64).reshape(-1)
