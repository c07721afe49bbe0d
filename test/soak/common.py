"""What sweeps and images share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CAMERAS = ("camera_front", "camera_left")
SECOND = 1_000_000_000
HEALTHY = 0.8  # share of clouds, images and infos that nothing is wrong with


def headed(message, stamp: int, frame: str):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    message.header.frame_id = frame
    return message


def draw(random: np.random.Generator, kinds: dict[str, Callable], healthy: float = HEALTHY) -> str:
    """The first kind with the probability `healthy`, else one of the others."""
    first, *others = kinds
    return first if random.random() < healthy else str(random.choice(others))
