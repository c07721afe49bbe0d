"""Camera models of sensor_msgs/CameraInfo: points in the camera's optical frame to pixels.

Equations as in OpenCV's calib module. plumb_bob and rational_polynomial distort x/z and y/z. The radial factor of the
rational model is (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6); p1 and p2 are tangential, s1 to s4 a
thin prism. equidistant is the fisheye model theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Distortion model -> the numbers of coefficients that CameraModel accepts.
COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (8, 12), "equidistant": (4,)}
# Names that drivers write beside those of sensor_msgs/distortion_models.
ALIASES = {
    "": "plumb_bob", "none": "plumb_bob", "pinhole": "plumb_bob", "radtan": "plumb_bob", "brown_conrady": "plumb_bob",
    "fisheye": "equidistant", "kannala_brandt": "equidistant", "kannala_brandt4": "equidistant", "equi": "equidistant",
}  # fmt: skip
_MAX_ANGLE = math.radians(89.9)  # the widest ray of a perspective image that is sampled; x/z is unbounded beyond
_MIN_RADIUS = 1e-9  # metres: keeps the direction of a point on a fisheye's axis defined
_SAMPLES = 4096  # rays on which the distortion is checked to rise: one every 0.02 to 0.04 degrees


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics: sizes, focal lengths and principal point in pixels, coefficients in CameraInfo's order.

    Raises ValueError for sizes and focal lengths that are not positive, and distortion that is not in `COEFFICIENTS`.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    def __post_init__(self):
        if not (0 < self.width < 2**32 and 0 < self.height < 2**32):
            raise ValueError(f"camera image is {self.width}x{self.height} pixels; both must be positive, and fit into "
                             "CameraInfo's 32 bits: is that filled in?")
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.distortion)
        if not np.isfinite(numbers).all():
            raise ValueError(f"camera intrinsics {numbers} are not all finite: calibrate the camera again")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"focal lengths fx={self.fx}, fy={self.fy} must be positive: a zero in CameraInfo's k "
                             "means that the camera is not calibrated")
        allowed = COEFFICIENTS.get(self.distortion_model)
        if allowed is None:
            raise ValueError(f"distortion model {self.distortion_model!r} is unknown; expected one of "
                             f"{', '.join(COEFFICIENTS)}")
        if len(self.distortion) not in allowed:
            raise ValueError(f"{self.distortion_model} takes {' or '.join(map(str, allowed))} coefficients, "
                             f"got {len(self.distortion)}: {self.distortion}")

    @classmethod
    def from_info(cls, info: Any) -> CameraModel:
        """The model of raw images of a CameraInfo. Raises ValueError for an uncalibrated camera or an unknown lens."""
        fx, _, cx, _, fy, cy, *last = finite_numbers(info, "k", 9)
        if last[0] or last[1]:
            raise ValueError(f"CameraInfo's k ends in {last}, expected [0.0, 0.0, 1.0]: it goes row by row")
        name, distortion = _lens(str(info.distortion_model), [float(value) for value in info.d])
        return cls(int(info.width), int(info.height), fx, fy, cx, cy, name, distortion)

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64 camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def is_fisheye(self) -> bool:
        return self.distortion_model == "equidistant"

    @cached_property
    def limit(self) -> float:
        """The widest ray that can meet the image: a tangent (radius in the z = 1 plane), or a fisheye's angle, radians.

        The limit is where the distorted radius passes the image's farthest corner or stops rising. Beyond that the
        polynomial falls again and would fold rays from outside the view back into the image. Tangential distortion
        moves a point at radius r towards the centre by at most 3 |p| r^2. This and the prism's part are subtracted.
        """
        angles = np.linspace(0.0, math.pi if self.is_fisheye else _MAX_ANGLE, _SAMPLES)
        if self.is_fisheye:
            radii, undistorted = self._fisheye_radius(angles), angles
        else:
            undistorted = np.tan(angles)
            radii = undistorted * self._radial_factor(undistorted**2)
            if self.distortion:
                radii = radii - 3 * math.hypot(*self.distortion[2:4]) * undistorted**2
            if prism := self.distortion[8:]:
                s1, s2, s3, s4 = prism
                radii = radii - math.hypot(s1, s3) * undistorted**2 - math.hypot(s2, s4) * undistorted**4
        corner = math.hypot(max(abs(self.cx), abs(self.width - self.cx)) / self.fx,
                            max(abs(self.cy), abs(self.height - self.cy)) / self.fy)
        falling = np.append(np.diff(radii) <= 0, True)  # the last sample ends the range in any case
        beyond = radii > corner
        return float(undistorted[np.flatnonzero(falling | beyond)[0]])

    def project(self, points_camera: Tensor) -> tuple[Tensor, Tensor]:
        """Project points (N, 3), metres, optical frame, to pixels (N, 2) as (u, v), NaN beyond `limit`.

        The second result (N,) bool is true inside the image.
        """
        x, y, z = points_camera.unbind(1)
        squared = x * x + y * y
        if self.is_fisheye:
            in_range = z > squared.sqrt() / math.tan(self.limit)  # the angle is below the limit, by its cotangent
        else:
            in_range = (z > 0) & (squared < (z * self.limit).square())
        # Most of a sweep is outside the camera's view, so the distortion is computed for the rest only.
        index = flatnonzero(in_range)
        x, y, z, squared = (value.index_select(0, index) for value in (x, y, z, squared))
        if self.is_fisheye:
            radius = squared.sqrt_().clamp_min_(_MIN_RADIUS)
            scale = self._fisheye_radius(torch.atan2(radius, z)) / radius
            x, y = x * scale, y * scale
        else:
            x, y = x / z, y / z
            if self.distortion:
                x, y = self._distort(x, y)
        u, v = x * self.fx + self.cx, y * self.fy + self.cy
        inside = (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)
        pixels = points_camera.new_full((2, len(points_camera)), torch.nan)
        pixels[0].scatter_(0, index, u)
        pixels[1].scatter_(0, index, v)
        return pixels.T, torch.zeros_like(in_range).scatter_(0, index, inside)

    def _fisheye_radius(self, angle):
        k1, k2, k3, k4 = self.distortion
        square = angle * angle
        return angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))

    def _radial_factor(self, squared):
        if not self.distortion:
            return 1.0
        # CameraInfo's order is k1 k2 p1 p2 [k3 [k4 k5 k6 [s1 s2 s3 s4]]].
        k1, k2, _, _, k3, k4, k5, k6 = self.distortion[:8] + (0.0,) * (8 - len(self.distortion))
        factor = 1 + squared * (k1 + squared * (k2 + squared * k3))
        if self.distortion_model == "rational_polynomial":
            factor = factor / (1 + squared * (k4 + squared * (k5 + squared * k6)))
        return factor

    def _distort(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        p1, p2 = self.distortion[2:4]
        squared, product = x * x + y * y, x * y
        factor = self._radial_factor(squared)
        u = x * factor + 2 * p1 * product + p2 * (squared + 2 * x * x)
        v = y * factor + p1 * (squared + 2 * y * y) + 2 * p2 * product
        if prism := self.distortion[8:]:
            s1, s2, s3, s4 = prism
            u, v = u + squared * (s1 + squared * s2), v + squared * (s3 + squared * s4)
        return u, v


def flatnonzero(mask: Tensor) -> Tensor:
    """The indices (M,) int64, ascending, at which mask (N,) bool is true."""
    # NumPy is up to six times as fast as torch on the CPU.
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.nonzero().squeeze(1)


def finite_numbers(info: Any, name: str, count: int) -> list[float]:
    """The array `name` of a CameraInfo. Raises ValueError unless it has `count` numbers, all finite."""
    numbers = [float(value) for value in getattr(info, name)]
    if len(numbers) != count:
        raise ValueError(f"CameraInfo's {name} has {len(numbers)} numbers, expected {count} (row by row)")
    if not np.isfinite(numbers).all():
        raise ValueError(f"CameraInfo's {name} is {numbers}, not all finite: calibrate the camera again")
    return numbers


def _lens(name: str, d: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """distortion_model and d of a CameraInfo -> those of a CameraModel."""
    known = name.strip().lower().replace(" ", "_").replace("-", "_")
    known = ALIASES.get(known, known)
    if known not in COEFFICIENTS:
        return name, tuple(d)  # CameraModel rejects it
    fisheye = known == "equidistant"
    used = max((index + 1 for index, value in enumerate(d) if value), default=0)
    if not used and not fisheye:
        return "plumb_bob", ()
    counts = (4,) if fisheye else (5, 4, 8, 12)  # in the order of preference
    count = next((count for count in counts if used <= count <= len(d)), None)
    if count is None:
        tilted = " (the last two tilt the sensor, which is not supported)" if used > 12 and len(d) == 14 else ""
        raise ValueError(f"distortion model {name!r} has {len(d)} coefficients {tuple(d)}{tilted}; expected "
                         f"{' or '.join(map(str, sorted(counts)))}, and only zeros behind them: calibrate the camera "
                         "with such a model, or use its rectified images")
    # As in image_geometry the number decides: plumb_bob with more than five is the rational polynomial.
    return known if fisheye else "rational_polynomial" if count > 5 else "plumb_bob", tuple(d[:count])
