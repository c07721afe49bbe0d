"""Constants and helpers that sweeps and images share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CAMERAS = ("camera_front", "camera_left")
SECOND = 1_000_000_000
HEALTHY = 0.8  # share of undamaged clouds, images and infos


def headed(message, stamp: int, frame: str):
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, SECOND)
    message.header.frame_id = frame
    return message


def draw(generator: np.random.Generator, kinds: dict[str, Callable], healthy: float = HEALTHY) -> str:
    """Return the first kind with probability `healthy`, otherwise one of the others."""
    first, *others = kinds
    return first if generator.random() < healthy else str(generator.choice(others))
