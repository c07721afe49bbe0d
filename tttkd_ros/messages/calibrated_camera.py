"""The camera model and pose of each image of a camera: the rig's, or CameraInfo's by image_geometry and REP-104."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from tttkd_ros.geometry.camera import CameraModel, finite_numbers
from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.geometry.transforms import inverse, validated
from tttkd_ros.messages.stamps import nanoseconds

MAX_SPANS = 64  # changes of the calibration that are kept: more than there are images that wait for their scan


@dataclass(frozen=True)
class Calibration:
    """A checked CameraInfo.

    full: the model at full resolution. binning: (x, y), 1 for none. roi: (x, y, width, height), pixels of the full
    sensor. rows: the four rows of `optical_from_frame`.
    """

    frame_id: str
    full: CameraModel
    binning: tuple[int, int]
    roi: tuple[int, int, int, int]
    rows: tuple[tuple[float, ...], ...]

    @classmethod
    def read(cls, info: Any, *, rectified: bool = False) -> Calibration:
        """Check a sensor_msgs/CameraInfo. Raises ValueError if it is no calibrated camera's.

        Rectified images have P's 3x3 without distortion, or K if P has no focal lengths. Raw images have K and D.
        """
        if rectified:
            p, k = finite_numbers(info, "p", 12), finite_numbers(info, "k", 9)
            fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if p[0] and p[5] else (k[0], k[4], k[2], k[5])
            full = CameraModel(int(info.width), int(info.height), fx, fy, cx, cy)
        else:
            full = CameraModel.from_info(info)
        roi = info.roi
        x, y = int(roi.x_offset), int(roi.y_offset)
        region = (x, y, int(roi.width) or full.width - x, int(roi.height) or full.height - y)
        binning = (int(info.binning_x) or 1, int(info.binning_y) or 1)
        rows = tuple(map(tuple, _optical_from_frame(info, rectified).tolist()))
        return cls(info.header.frame_id, full, binning, region, rows)

    @property
    def optical_from_frame(self) -> np.ndarray:
        """(4, 4) float64, from `frame_id` to the optical frame of the images.

        By image_geometry's convention `frame_id` is the rectified frame, in which P [X 1] are the pixels of X. P's
        fourth column (Tx and Ty of a stereo camera) shifts the optical frame. For raw images R's transpose rotates it
        too; an R of zeros is no rotation.
        """
        return np.array(self.rows)

    @lru_cache(maxsize=64)  # noqa: B019 - a few calibrations; every image gets the same model, which caches its limit
    def model(self, width: int, height: int) -> CameraModel:
        """The model of images of that size in pixels. Raises ValueError if the size does not fit, or fits two ways.

        CameraInfo describes the full sensor. Binning and region of interest apply unless the image has the full size.
        """
        full, binning, roi = self.full, self.binning, self.roi
        whole = (0, 0, full.width, full.height)
        if (width, height) == whole[2:]:
            return full
        # The first is REP-104's. The others are those of drivers that crop or bin but do not do both.
        strict, *others = (roi, binning), (roi, (1, 1)), (whole, binning)
        fitting = [reading for reading in (strict, *others) if _fits(width, height, *reading)]
        if not fitting:
            known = ((whole, (1, 1)), strict, *others)
            sizes = dict.fromkeys(f"{region[2] // bins[0]}x{region[3] // bins[1]}" for region, bins in known)
            raise ValueError(f"image is {width}x{height}, its CameraInfo allows {' or '.join(sizes)}: publish the "
                             "CameraInfo of this resolution, or give a rig file with its camera_info")
        if strict not in fitting and len(set(fitting)) > 1:
            raise ValueError(f"image is {width}x{height}: by its CameraInfo that is both the region of interest {roi} "
                             f"not binned and the whole sensor binned by {binning}: give a rig file with its "
                             "camera_info")
        (x, y, _, _), (across, down) = fitting[0]
        return replace(full, width=width, height=height, fx=full.fx / across, fy=full.fy / down,
                       cx=(full.cx - x) / across, cy=(full.cy - y) / down)


@dataclass(frozen=True)
class _Span:
    """A calibration, the first and last stamp that it was published with, and when it was first received; all in ns."""

    calibration: Calibration
    first: int
    last: int
    received: int


class CalibratedCamera:
    """Finds the calibration of an image: the rig's, or else the CameraInfo in force at the image's stamp.

    If no CameraInfo was in force then, it is the last one received before the image, or else the first one. What the
    rig's entry gives takes precedence over CameraInfo and TF. One thread may call `add` while others call `locate`.
    """

    def __init__(self, rig: RigCamera | None = None, *, rectified: bool = False):
        self._rig = rig
        self._rectified = rectified
        self._spans: tuple[_Span, ...] = ()

    @property
    def frame_id(self) -> str:
        """The frame id of the last usable CameraInfo; empty if there is none."""
        return self._spans[-1].calibration.frame_id if self._spans else ""

    def add(self, info: Any, received: int = 0) -> None:
        """Add a sensor_msgs/CameraInfo (received: ns, or 0). Raises ValueError if unusable; the last one stays."""
        try:
            calibration = Calibration.read(info, rectified=self._rectified)
        except ValueError as error:
            instead = "the last usable one stays in force" if self._spans else "none that can be used came yet"
            raise ValueError(f"{error}; {instead}") from error
        stamp = nanoseconds(info.header.stamp)
        spans = self._spans
        if spans and stamp < spans[-1].last:  # time jumped back, so the stamps so far say nothing about later images
            spans = (replace(spans[-1], first=stamp, last=stamp - 1),)
        if spans and spans[-1].calibration == calibration:
            self._spans = (*spans[:-1], replace(spans[-1], last=stamp))
        else:
            self._spans = (*spans, _Span(calibration, stamp, stamp, received))[-MAX_SPANS:]

    def locate(self, stamp: int, size: tuple[int, int], image_frame: str, frame_from_lidar: Callable[[str], np.ndarray],
               received: int = 0) -> tuple[CameraModel, np.ndarray]:
        """The camera model of an image of that size, pixels, and camera_from_lidar (4, 4) into its optical frame.

        stamp, received: the image's stamp and when it was received, ns. image_frame: its frame id; CameraInfo's is
        used if it is empty or unknown. frame_from_lidar: gives (4, 4) for a frame id, or raises ValueError.
        Raises ValueError if there is no usable CameraInfo, it does not allow the size, or no frame is known.
        """
        rig = self._rig
        if rig is not None and rig.camera is not None:
            model = rig.camera
            if size != (model.width, model.height):
                raise ValueError(f"image is {size[0]}x{size[1]}, the rig's camera_info says {model.width}x"
                                 f"{model.height}: correct it, or remove it to have the published CameraInfo used")
            return model, rig.camera_from_lidar
        calibration = self._in_force(stamp, received)
        if calibration is None:
            raise ValueError("no usable CameraInfo yet")
        model = calibration.model(*size)
        if rig is not None:
            return model, rig.camera_from_lidar
        return model, calibration.optical_from_frame @ _first_known(frame_from_lidar, image_frame, calibration.frame_id)

    def _in_force(self, stamp: int, received: int) -> Calibration | None:
        by_stamp = (span for span in reversed(self._spans) if span.first <= stamp <= span.last)
        by_order = (span for span in reversed(self._spans) if span.received <= received)
        span = next(by_stamp, None) or next(by_order, None) or next(iter(self._spans), None)
        return None if span is None else span.calibration


def _first_known(frame_from_lidar: Callable[[str], np.ndarray], *frames: str) -> np.ndarray:
    problem = ValueError("neither the image nor its CameraInfo has a frame id: set the driver's, or give a rig file")
    for index, frame in enumerate(dict.fromkeys(filter(None, frames))):
        try:
            return frame_from_lidar(frame)
        except ValueError as error:
            problem = error if index == 0 else problem
    raise problem


def _fits(width: int, height: int, region: tuple[int, int, int, int], bins: tuple[int, int]) -> bool:
    """Whether a binned region of the sensor has that size, with partial pixels rounded up or down."""
    pairs = zip((width, height), region[2:], bins, strict=True)
    return all(abs(size * factor - extent) < factor for size, extent, factor in pairs)


def _optical_from_frame(info: Any, rectified: bool) -> np.ndarray:
    p = np.array(finite_numbers(info, "p", 12)).reshape(3, 4)
    matrix = np.eye(4)
    if p[0, 0] and p[1, 1] and p[2, 2]:
        matrix[:3, 3] = np.linalg.solve(p[:, :3], p[:, 3])
    r = np.array(finite_numbers(info, "r", 9)).reshape(3, 3)
    if rectified or not r.any():
        return matrix
    rotation = np.eye(4)
    rotation[:3, :3] = r
    try:
        return inverse(validated(rotation)) @ matrix
    except ValueError as error:
        raise ValueError(f"CameraInfo's r is {r.ravel().tolist()}, which is no rotation: publish the identity there if "
                         "the camera is not rectified") from error
