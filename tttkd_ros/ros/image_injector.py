"""The image features of each sweep, for a student that takes them while it predicts (DITR)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tttkd_ros.adaptation.targets import Teacher, image_features, with_features
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.image_features import ImageFeatures

WAIT_SHARE = 1 / 3  # of the sweep period, by default
MAX_WAIT_S = 1.0  # by default, if the period is long
USUAL_PERIOD_S = 0.1  # of a LiDAR, while its own is unknown
DISTRUSTED = "the guard does not trust the images: they do not fit the clouds, see ~/adaptation"


@dataclass(frozen=True)
class Injected:
    """What the labels of the last sweep rest on.

    images, cameras: how many images were injected, of how many cameras. seen: share of the points that they show.
    waited_s: for the images. missing: why a camera has none.
    """

    images: int = 0
    cameras: int = 0
    seen: float = 0.0
    waited_s: float = 0.0
    missing: str = ""


class ImageInjector:
    """Waits a bounded time for the images of a sweep, and lets the teacher run on those that have come.

    The thread that predicts uses it.

    Args:
        teacher: the one that the student was trained with.
        cameras: how many there are.
        wait_s: after the sweep's arrival; 0 for a third of the sweep period.
        seed: of the draws of a camera where several see a point.
    """

    def __init__(self, teacher: Teacher, cameras: int, wait_s: float, seed: int):
        self.last = Injected(cameras=cameras)
        self._teacher, self._wait_s, self._seed = teacher, wait_s, seed

    def __call__(self, build_frame: Callable[[float], Frame], arrived: float,
                 period_s: float) -> tuple[Frame, ImageFeatures]:
        """Return the frame of a sweep, with the teacher's features, and those of its points.

        Args:
            build_frame: makes the frame; takes the seconds that it may wait for images.
            arrived: when the sweep did, seconds of `time.monotonic()`.
            period_s: of the sweeps; infinite if unknown.

        Raises whatever the teacher does.
        """
        try:
            return self._features(build_frame, arrived, period_s)
        except Exception as error:
            self.last = Injected(cameras=self.last.cameras, missing=f"{type(error).__name__}: {error}")
            raise

    def withhold(self) -> None:
        """Record that the images of a sweep are not injected, because the guard does not trust them."""
        self.last = Injected(cameras=self.last.cameras, missing=DISTRUSTED)

    def _features(self, build_frame: Callable[[float], Frame], arrived: float,
                  period_s: float) -> tuple[Frame, ImageFeatures]:
        period_s = period_s if math.isfinite(period_s) else USUAL_PERIOD_S
        wait = self._wait_s or min(WAIT_SHARE * period_s, MAX_WAIT_S)
        start = time.monotonic()
        frame = build_frame(max(arrived + wait - start, 0.0))
        waited = time.monotonic() - start
        frame = with_features(frame, self._teacher)
        images = image_features(frame, self._teacher, self._seed)
        seen = images.patch.numpy() >= 0
        missing = "; ".join(f"{camera}: {reason}" for camera, reason in frame.missing.items())
        self.last = Injected(len(frame.views), self.last.cameras, float(np.mean(seen)) if len(seen) else 0.0, waited,
                             missing)
        return frame, images
