"""sensor_msgs/CameraInfo to camera models, by image_geometry's rules and REP-104. Any object with its fields serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import inverse, validated

# What drivers write for a model beside the names of sensor_msgs/distortion_models.
ALIASES = {
    "": "plumb_bob", "none": "plumb_bob", "pinhole": "plumb_bob", "radtan": "plumb_bob", "brown_conrady": "plumb_bob",
    "fisheye": "equidistant", "kannala_brandt": "equidistant", "kannala_brandt4": "equidistant", "equi": "equidistant",
}  # fmt: skip
# How many of OpenCV's coefficients k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 make a model, in the order of preference. As in
# image_geometry their number counts: more than five of plumb_bob are the rational polynomial's.
PERSPECTIVE = {5: "plumb_bob", 4: "plumb_bob", 8: "rational_polynomial", 12: "rational_polynomial"}
FISHEYE = {4: "equidistant"}


@dataclass(frozen=True)
class Calibration:
    """A checked CameraInfo.

    full: the model of the whole sensor at full resolution. binning: (x, y), 1 for none. roi: (x, y, width, height),
    pixels of the full sensor. placement: four rows of `optical_from_frame`.
    """

    frame_id: str
    full: CameraModel
    binning: tuple[int, int]
    roi: tuple[int, int, int, int]
    placement: tuple[tuple[float, ...], ...]

    @classmethod
    def read(cls, message: Any, *, rectified: bool = False) -> Calibration:
        """From a sensor_msgs/CameraInfo, rclpy's or rosbags'.

        rectified: whether the images are. Then P's 3x3 holds for them without distortion, or K if P has no focal
        lengths; else K and D. Raises ValueError for what no camera has, as an all-zero K: it is not calibrated (yet).
        """
        if rectified:
            p, k = _numbers(message, "p", 12), _numbers(message, "k", 9)
            fx, fy, cx, cy = (p[0], p[5], p[2], p[6]) if p[0] and p[5] else (k[0], k[4], k[2], k[5])
            full = CameraModel(int(message.width), int(message.height), fx, fy, cx, cy)
        else:
            full = raw_model(message)
        roi = message.roi
        x, y = int(roi.x_offset), int(roi.y_offset)
        return cls(
            message.header.frame_id,
            full,
            (int(message.binning_x) or 1, int(message.binning_y) or 1),
            (x, y, int(roi.width) or full.width - x, int(roi.height) or full.height - y),
            tuple(map(tuple, _optical_from_frame(message, rectified).tolist())),
        )

    @property
    def optical_from_frame(self) -> np.ndarray:
        """(4, 4): from `frame_id` to the optical frame of the images.

        image_geometry's convention: `frame_id` is the rectified frame, where P [X 1] are X's pixels. The optical frame
        of a rectified image is shifted by P's fourth column (the Tx and Ty of a stereo camera); that of a raw image is
        also turned by R's transpose. An R of zeros stands for no rotation.
        """
        return np.array(self.placement)

    def model(self, width: int, height: int) -> CameraModel:
        """The model of an image of that size.

        CameraInfo describes the full sensor. Binning and region of interest apply if the image's size says so: an image
        of CameraInfo's own size is neither binned nor cropped. Raises ValueError if the size fits no reading.
        """
        return _model(self, width, height)


def raw_model(message: Any) -> CameraModel:
    """The model of raw images by width, height, k, d and distortion_model alone."""
    fx, _, cx, _, fy, cy, *last = _numbers(message, "k", 9)
    if last[0] or last[1]:
        raise ValueError(f"CameraInfo's k ends in {last}, expected [0.0, 0.0, 1.0]: it goes row by row")
    name, distortion = _lens(str(message.distortion_model), [float(value) for value in message.d])
    return CameraModel(int(message.width), int(message.height), fx, fy, cx, cy, name, distortion)


@lru_cache(maxsize=64)  # a model keeps what it has computed, and images come many times a second
def _model(calibration: Calibration, width: int, height: int) -> CameraModel:
    full, binning, roi = calibration.full, calibration.binning, calibration.roi
    whole = (0, 0, full.width, full.height)
    if (width, height) == whole[2:]:
        return full
    # As REP-104 has it, and as drivers do that crop or bin but do not do both.
    strict, *others = (roi, binning), (roi, (1, 1)), (whole, binning)
    fitting = [reading for reading in (strict, *others) if _fits(width, height, *reading)]
    if not fitting:
        sizes = dict.fromkeys(
            f"{region[2] // bins[0]}x{region[3] // bins[1]}" for region, bins in ((whole, (1, 1)), strict, *others)
        )
        raise ValueError(f"image is {width}x{height}, its CameraInfo allows {' or '.join(sizes)}: publish the "
                         "CameraInfo of this resolution, or give a rig file with its camera_info")
    if strict not in fitting and len(set(fitting)) > 1:
        raise ValueError(f"image is {width}x{height}: by its CameraInfo that is both the region of interest {roi} not "
                         f"binned and the whole sensor binned by {binning}: give a rig file with its camera_info")
    (x, y, _, _), (across, down) = fitting[0]
    return CameraModel(
        width, height, full.fx / across, full.fy / down, (full.cx - x) / across, (full.cy - y) / down,
        full.distortion_model, full.distortion,
    )  # fmt: skip


def _fits(width: int, height: int, region: tuple[int, int, int, int], bins: tuple[int, int]) -> bool:
    """Whether a region of the sensor, binned, has that size, whichever way a pixel that is not whole was rounded."""
    pairs = zip((width, height), region[2:], bins, strict=True)
    return all(abs(size * share - extent) < share for size, extent, share in pairs)


def _optical_from_frame(message: Any, rectified: bool) -> np.ndarray:
    p = np.array(_numbers(message, "p", 12)).reshape(3, 4)
    matrix = np.eye(4)
    if p[0, 0] and p[1, 1] and p[2, 2]:
        matrix[:3, 3] = np.linalg.solve(p[:, :3], p[:, 3])
    r = np.array(_numbers(message, "r", 9)).reshape(3, 3)
    if rectified or not r.any():
        return matrix
    rotation = np.eye(4)
    rotation[:3, :3] = r
    try:
        return inverse(validated(rotation)) @ matrix
    except ValueError as error:
        raise ValueError(f"CameraInfo's r is {r.ravel().tolist()}, which is no rotation: publish the identity there if "
                         "the camera is not rectified") from error


def _lens(name: str, d: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """CameraInfo's distortion_model and d -> those of a CameraModel. Zeros may follow the model's own coefficients."""
    known = name.strip().lower().replace(" ", "_").replace("-", "_")
    known = ALIASES.get(known, known)
    counts = {"equidistant": FISHEYE, "plumb_bob": PERSPECTIVE, "rational_polynomial": PERSPECTIVE}.get(known)
    if counts is None:
        return name, tuple(d)  # which CameraModel refuses
    used = max((index + 1 for index, value in enumerate(d) if value), default=0)
    if not used and counts is PERSPECTIVE:
        return "plumb_bob", ()
    count = next((count for count in counts if used <= count <= len(d)), None)
    if count is None:
        tilted = " (the last two tilt the sensor, which is not supported)" if used > 12 and len(d) == 14 else ""
        raise ValueError(f"distortion model {name!r} has {len(d)} coefficients {tuple(d)}{tilted}; expected "
                         f"{' or '.join(map(str, sorted(counts)))}, and only zeros behind them: calibrate the camera "
                         "with such a model, or use its rectified images")
    return counts[count], tuple(d[:count])


def _numbers(message: Any, name: str, count: int) -> list[float]:
    numbers = [float(value) for value in getattr(message, name)]
    if len(numbers) != count:
        raise ValueError(f"CameraInfo's {name} has {len(numbers)} numbers, expected {count} (row by row)")
    if not np.isfinite(numbers).all():
        raise ValueError(f"CameraInfo's {name} is {numbers}, not all finite: calibrate the camera again")
    return numbers
