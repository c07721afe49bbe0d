"""Weather and light: what fog, rain, darkness and glare do to a sweep and to its image.

From a surface of reflectivity rho at R metres a LiDAR receives rho exp(-2 a R) / R^2, where the air takes the share a
of its light per metre: M. Hahner et al., "Fog Simulation on Real LiDAR Point Clouds for 3D Object Detection in Adverse
Weather" (ICCV 2021), C. Goodin et al., "Predicting the Influence of Rain on LIDAR in ADAS" (Electronics 8(1), 2019).
What is less than the least that it can detect is lost. Droplets send light back as well, most of it from close by, and
where that is stronger the sensor reports it. The first of these integrates the pulse over the fog; V. Kilic et al.,
"Lidar Light Scattering Augmentation" (arXiv 2107.07004), draws every raindrop in a beam; here a false return's distance
is drawn from the same equation for droplets that are everywhere, and how many there are is a constant of the weather.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.frame import Frame
from tttkd_ros.simulation.corruptions import trail
from tttkd_ros.simulation.effects import Moment, along_rays, repaint, select

_DETECTABLE = 0.1 / 50**2  # reflectivity over squared metres: the HDL-64E's data sheet has 10 % at 50 m
_ERROR = 0.09  # metres, over the root of twice the signal: the standard deviation of the range
_BLIND = 1.5  # metres in which the sensor takes no return
_DROPLET = 0.1  # the brightest false return's intensity
_GAMMA = 2.2  # of an image's encoding
_GREY = 0.78  # of fog and of clouds
_RAIN_VISIBILITY = 1500.0  # metres
_CONTRAST = np.log(20)  # what is left of it at the meteorological visibility is 5 %


def _through(frame: Frame, extinction: float, glinting: float, rng: np.random.Generator) -> Frame:
    """The sweep as measured through droplets.

    extinction: per metre. glinting: metres of air whose droplets are bright enough to be taken for a return. A false
    return takes the place of its ray's true one, so that order and times stay; its truth is `UNLABELLED`. The ranges'
    error grows as the signal nears the least detectable one (Kilic et al.).
    """
    ranges = np.linalg.norm(frame.points, axis=1)
    count = len(ranges)
    # A density of exp(-2 a r) / r^2: inverse uniform numbers, thinned by what the way there and back absorbs.
    near = _BLIND / (1 - rng.random(count))
    reached = rng.random(count) < np.exp(-2 * extinction * near)
    false = (rng.random(count) < -np.expm1(-extinction * glinting)) & reached & (near < ranges)
    intensity = frame.intensity * np.exp(-2 * extinction * ranges)
    signal = intensity / ranges**2 / _DETECTABLE
    measured = ranges + rng.normal(0, 1, count) * _ERROR / np.sqrt(2 * np.maximum(signal, 1))
    seen = replace(
        frame,
        points=along_rays(frame.points, np.where(false, near, measured)),
        intensity=np.where(false, _DROPLET * rng.random(count), intensity).astype(np.float32),
        labels=np.where(false, np.uint8(UNLABELLED), frame.labels),
    )
    return select(seen, false | (signal > 1))


def _veiled(image: np.ndarray, depth: np.ndarray, extinction: float) -> np.ndarray:
    """Koschmieder's law: contrast falls with depth as exp(-a d), towards the air's own grey."""
    clear = np.exp(-extinction * depth)[..., None]
    return image * clear + _GREY * (1 - clear)


@dataclass(frozen=True)
class Fog:
    """visibility: metres at which 5 % of a contrast are left, the meteorological optical range."""

    visibility: float

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        extinction = _CONTRAST / self.visibility
        frame = repaint(frame, lambda image: _veiled(image, moment.depth, extinction))
        return _through(frame, extinction, 6.0, moment.of_sweep)


@dataclass(frozen=True)
class Rain:
    """rate: millimetres an hour.

    Extinction 0.01 rate^0.6 and a range error of 2 % as Goodin et al. have them (their factor (1 - exp(-rate))^2 is 1
    for any rain to speak of). On the image streaks before a scene that is somewhat darker.
    """

    rate: float

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        slant = np.deg2rad(moment.of_drive.uniform(75, 105))
        drops = (moment.of_sweep.random(moment.depth.shape) < 4e-4 * self.rate).astype(np.float64)
        streaks = np.clip(cv2.filter2D(drops, -1, 6 * trail(14, 10, slant)), 0, 0.6)[..., None]

        def wet(image: np.ndarray) -> np.ndarray:
            return 0.8 * _veiled(image, moment.depth, _CONTRAST / _RAIN_VISIBILITY) * (1 - streaks) + 0.85 * streaks

        frame = repaint(frame, wet)
        return _through(frame, 0.01 * self.rate**0.6, 1.0, moment.of_sweep)


@dataclass(frozen=True)
class Dark:
    """light: share of the day's. photons: that a white pixel of the day counts; few make noise."""

    light: float
    photons: float = 3000.0

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        def night(image: np.ndarray) -> np.ndarray:
            return (moment.of_sweep.poisson(image**_GAMMA * self.light * self.photons) / self.photons) ** (1 / _GAMMA)

        return repaint(frame, night)


@dataclass(frozen=True)
class Glare:
    """A low sun before the camera, at a place in the image that the drive draws, and the veil that it casts over it.

    strength: of the veil, as a share of white.
    """

    strength: float

    def apply(self, frame: Frame, moment: Moment) -> Frame:
        height, width = moment.depth.shape
        row, column = moment.of_drive.uniform((0.15, 0.3), (0.4, 0.7)) * (height, width)
        v, u = np.mgrid[:height, :width] + 0.5
        away = np.hypot(v - row, u - column) / width
        veil = self.strength * (0.25 + np.exp(-away / 0.2) + 4 * np.exp(-((away / 0.04) ** 2)))
        return repaint(frame, lambda image: image + veil[..., None] * (1.0, 0.96, 0.86))
