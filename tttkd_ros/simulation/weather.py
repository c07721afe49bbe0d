"""Weather and light: the effects of fog, rain, darkness and glare on a sweep and its image.

A LiDAR receives rho exp(-2 a R) / R^2 from a surface of reflectivity rho at R metres, if the air absorbs the share a of
its light per metre: M. Hahner et al., "Fog Simulation on Real LiDAR Point Clouds for 3D Object Detection in Adverse
Weather" (ICCV 2021), C. Goodin et al., "Predicting the Influence of Rain on LIDAR in ADAS" (Electronics 8(1), 2019).
Signals below the detection threshold are lost. Droplets reflect light as well, mostly close to the sensor. If their
signal is the stronger one, the sensor reports it. Hahner et al. integrate the pulse over the fog; V. Kilic et al.,
"Lidar Light Scattering Augmentation" (arXiv 2107.07004), draw every raindrop in a beam. Here a false return's distance
is drawn from the same equation for droplets that are everywhere. Their number is a constant of the weather.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.frame import Frame
from tttkd_ros.simulation.effects import EffectContext, along_rays, motion_kernel, repaint, select

_DETECTION_THRESHOLD = 0.1 / 50**2  # reflectivity over squared metres: 10 % at 50 m in the HDL-64E's data sheet
_RANGE_DEVIATION = 0.09  # metres, over the root of twice the signal
_MIN_RANGE = 1.5  # metres
_DROPLET_INTENSITY = 0.1  # of the brightest false return
_PHOTONS = 3000.0  # count of a white pixel in daylight
_GAMMA = 2.2  # of the image's encoding
_GREY = 0.78  # of fog and clouds
_RAIN_VISIBILITY = 1500.0  # metres
_CONTRAST = np.log(20)  # 5 % of the contrast remain at the meteorological visibility


def _measure_through_droplets(frame: Frame, extinction: float, backscatter: float,
                              generator: np.random.Generator) -> Frame:
    """Attenuate the sweep's returns by `extinction` per metre, and add false ones.

    backscatter: metres of air whose droplets are bright enough for a return. A false return replaces its ray's true
    one, so order and times stay. Its label is `UNLABELLED`. The range error grows as the signal approaches the
    detection threshold (Kilic et al.).
    """
    ranges = np.linalg.norm(frame.points, axis=1)
    count = len(ranges)
    # A density of exp(-2 a r) / r^2: inverse uniform numbers, thinned by the absorption there and back.
    false_range = _MIN_RANGE / (1 - generator.random(count))
    transmitted = generator.random(count) < np.exp(-2 * extinction * false_range)
    scattered = generator.random(count) < -np.expm1(-extinction * backscatter)
    false = scattered & transmitted & (false_range < ranges)
    intensity = frame.intensity * np.exp(-2 * extinction * ranges)
    signal = intensity / ranges**2 / _DETECTION_THRESHOLD
    measured = ranges + generator.normal(0, 1, count) * _RANGE_DEVIATION / np.sqrt(2 * np.maximum(signal, 1))
    droplets = _DROPLET_INTENSITY * generator.random(count)
    with_false = replace(
        frame,
        points=along_rays(frame.points, np.where(false, false_range, measured)),
        features={**frame.features, "intensity": np.where(false, droplets, intensity).astype(np.float32)},
        labels=np.where(false, np.uint8(UNLABELLED), frame.labels),
    )
    return select(with_false, false | (signal > 1))


def _veil(image: np.ndarray, depth: np.ndarray, extinction: float) -> np.ndarray:
    """Koschmieder's law: contrast falls with depth as exp(-a d), towards the air's own grey."""
    clear = np.exp(-extinction * depth)[..., None]
    return image * clear + _GREY * (1 - clear)


def fog(frame: Frame, context: EffectContext, visibility: float) -> Frame:
    """visibility: metres at which 5 % of the contrast remain, the meteorological optical range."""
    extinction = _CONTRAST / visibility
    frame = repaint(frame, context, lambda image, depth: _veil(image, depth, extinction))
    return _measure_through_droplets(frame, extinction, 6.0, context.sweep_generator)


def rain(frame: Frame, context: EffectContext, rate: float) -> Frame:
    """rate: millimetres per hour.

    Extinction is 0.01 rate^0.6 and the range error 2 %, as in Goodin et al. (their factor (1 - exp(-rate))^2 is 1 for
    all but the lightest rain). The image shows streaks in front of a darker scene.
    """
    angle = np.deg2rad(context.drive_generator.uniform(75, 105))

    def paint(image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        drops = (context.sweep_generator.random(depth.shape) < 4e-4 * rate).astype(np.float64)
        streaks = np.clip(cv2.filter2D(drops, -1, 6 * motion_kernel(14, 10, angle)), 0, 0.6)[..., None]
        return 0.8 * _veil(image, depth, _CONTRAST / _RAIN_VISIBILITY) * (1 - streaks) + 0.85 * streaks

    return _measure_through_droplets(repaint(frame, context, paint), 0.01 * rate**0.6, 1.0, context.sweep_generator)


def darkness(frame: Frame, context: EffectContext, light: float) -> Frame:
    """light: share of daylight. Few photons make noise."""
    count = context.sweep_generator.poisson
    return repaint(
        frame, context, lambda image, _: (count(image**_GAMMA * light * _PHOTONS) / _PHOTONS) ** (1 / _GAMMA)
    )


def glare(frame: Frame, context: EffectContext, strength: float) -> Frame:
    """A low sun in front of the camera, at one place in the image for a whole drive, and its veil.

    strength: of the veil, as a share of white.
    """
    row, column = context.drive_generator.uniform((0.15, 0.3), (0.4, 0.7))

    def paint(image: np.ndarray, depth: np.ndarray) -> np.ndarray:
        height, width = depth.shape
        v, u = np.mgrid[:height, :width] + 0.5
        distance = np.hypot(v - row * height, u - column * width) / width
        veil = strength * (0.25 + np.exp(-distance / 0.2) + 4 * np.exp(-((distance / 0.04) ** 2)))
        return image + veil[..., None] * (1.0, 0.96, 0.86)

    return repaint(frame, context, paint)
