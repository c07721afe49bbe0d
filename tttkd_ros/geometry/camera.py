"""Camera models of sensor_msgs/CameraInfo: points in the camera's optical frame to pixels.

Equations as in OpenCV's calib module: plumb_bob and rational_polynomial distort x/z and y/z (the rational model is
r (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6), with p1 and p2 tangential, and s1 to s4 of a thin
prism), equidistant is the fisheye model theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

# Distortion model -> numbers of coefficients it may come with.
COEFFICIENTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (8, 12), "equidistant": (4,)}

_STEEPEST = math.radians(89.9)  # the widest ray that a perspective image is asked about; x/z grows without bound beyond
_NEAREST = 1e-9  # metres: points nearer to a fisheye's axis are on it, where their direction would be undefined
_SAMPLES = 4096  # rays on which the distortion is checked to be rising: one every 0.02 to 0.04 degrees


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics. Sizes, focal lengths and principal point in pixels; coefficients in CameraInfo's order.

    Raises ValueError for values that no camera has: sizes or focal lengths that are not positive, numbers that are not
    finite, an unknown distortion model or a number of coefficients that does not belong to it.
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
        if not all(math.isfinite(value) for value in numbers):
            raise ValueError(f"camera intrinsics {numbers} are not all finite: calibrate the camera again")
        if self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"focal lengths fx={self.fx}, fy={self.fy} must be positive: a zero in CameraInfo's k "
                             "means that the camera is not calibrated")
        if self.distortion_model not in COEFFICIENTS:
            raise ValueError(f"distortion model {self.distortion_model!r} is unknown; expected one of "
                             f"{', '.join(COEFFICIENTS)}")
        allowed = COEFFICIENTS[self.distortion_model]
        if len(self.distortion) not in allowed:
            raise ValueError(f"{self.distortion_model} takes {' or '.join(map(str, allowed))} coefficients, "
                             f"got {len(self.distortion)}: {self.distortion}")

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64 camera matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def is_fisheye(self) -> bool:
        return self.distortion_model == "equidistant"

    @property
    def _prism(self) -> tuple[float, ...]:
        """s1 to s4, or none."""
        return self.distortion[8:]

    @cached_property
    def limit(self) -> float:
        """The widest ray that can meet the image: a tangent (radius in the z = 1 plane), or a fisheye's angle, radians.

        It lies where the distorted radius leaves the image's farthest corner, or where it stops rising: past that the
        polynomial turns and would fold rays from far outside the view back into the image. Tangential distortion
        moves a point at radius r by at most 3 |p| r^2 towards the centre, which is taken off, and so is a thin prism's.
        """
        angles = np.linspace(0.0, math.pi if self.is_fisheye else _STEEPEST, _SAMPLES)
        if self.is_fisheye:
            radii, undistorted = self._fisheye_radius(angles), angles
        else:
            undistorted = np.tan(angles)
            radii = undistorted * self._radial_factor(undistorted**2)
            if self.distortion:
                radii = radii - 3 * math.hypot(*self.distortion[2:4]) * undistorted**2
            if self._prism:
                s1, s2, s3, s4 = self._prism
                radii = radii - math.hypot(s1, s3) * undistorted**2 - math.hypot(s2, s4) * undistorted**4
        corner = math.hypot(max(abs(self.cx), abs(self.width - self.cx)) / self.fx,
                            max(abs(self.cy), abs(self.height - self.cy)) / self.fy)
        falling = np.append(np.diff(radii) <= 0, True)  # the last sample ends the range in any case
        beyond = radii > corner
        return float(undistorted[np.flatnonzero(falling | beyond)[0]])

    def project(self, points_camera: Tensor) -> tuple[Tensor, Tensor]:
        """points_camera (N, 3), metres, optical frame -> pixels (N, 2) as (u, v), valid (N,) bool.

        valid: in front of the camera (a fisheye: within its range of angles), within the distortion's rising range
        and inside the image. Points for which the camera has no pixel have NaN.
        """
        x, y, z = points_camera.unbind(1)
        squared = x * x + y * y
        if self.is_fisheye:
            in_range = z > squared.sqrt() / math.tan(self.limit)  # the angle is below the limit, by its cotangent
        else:
            in_range = (z > 0) & (squared < (z * self.limit).square())
        # Most of a sweep is outside one camera's view: only the rest pays for the distortion.
        index = flatnonzero(in_range)
        x, y, z, squared = (value.index_select(0, index) for value in (x, y, z, squared))
        if self.is_fisheye:
            radius = squared.sqrt_().clamp_min_(_NEAREST)
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
        if self._prism:
            s1, s2, s3, s4 = self._prism
            u, v = u + squared * (s1 + squared * s2), v + squared * (s3 + squared * s4)
        return u, v


def flatnonzero(mask: Tensor) -> Tensor:
    """mask (N,) bool -> (M,) int64, ascending, where it is true.

    NumPy looks through a mask on the CPU up to six times as fast as torch does.
    """
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if mask.device.type == "cpu" else mask.nonzero().squeeze(1)
