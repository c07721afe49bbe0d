"""sensor_msgs/CameraInfo to camera models, by image_geometry's rules and REP-104."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tttkd_ros.geometry.camera import CameraModel, finite_numbers
from tttkd_ros.geometry.transforms import inverse, validated


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
        return cls(
            info.header.frame_id,
            full,
            (int(info.binning_x) or 1, int(info.binning_y) or 1),
            (x, y, int(roi.width) or full.width - x, int(roi.height) or full.height - y),
            tuple(map(tuple, _optical_from_frame(info, rectified).tolist())),
        )

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
            sizes = dict.fromkeys(
                f"{region[2] // bins[0]}x{region[3] // bins[1]}" for region, bins in ((whole, (1, 1)), strict, *others)
            )
            raise ValueError(f"image is {width}x{height}, its CameraInfo allows {' or '.join(sizes)}: publish the "
                             "CameraInfo of this resolution, or give a rig file with its camera_info")
        if strict not in fitting and len(set(fitting)) > 1:
            raise ValueError(f"image is {width}x{height}: by its CameraInfo that is both the region of interest {roi} "
                             f"not binned and the whole sensor binned by {binning}: give a rig file with its "
                             "camera_info")
        (x, y, _, _), (across, down) = fitting[0]
        return CameraModel(
            width, height, full.fx / across, full.fy / down, (full.cx - x) / across, (full.cy - y) / down,
            full.distortion_model, full.distortion,
        )  # fmt: skip


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
