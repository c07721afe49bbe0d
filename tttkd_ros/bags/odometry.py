"""Where the LiDAR was, by a bag's /tf."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

from tttkd_ros.bags.transforms import Transforms
from tttkd_ros.geometry.compensation import Compensation

log = logging.getLogger(__name__)


class Received(NamedTuple):
    """A LiDAR frame as a sweep names it, and when that was received (ns): a mount may change."""

    frame: str
    time: int


def compensation(bag: Path, transforms: Transforms, fixed_frame: str) -> Compensation:
    """Its LiDAR frames are `Received`. fixed_frame: odometry's; empty to take the vehicle as standing."""
    complained: set[str] = set()

    def complain(problem: str) -> None:
        kind = problem.partition(":")[0]
        if kind not in complained:
            complained.add(kind)
            log.warning("bag %s, a sweep and perhaps others: %s", bag, problem)

    def trajectory(lidar: Received, stamps):
        return transforms.trajectory(fixed_frame, lidar.frame, lidar.time)

    return Compensation(trajectory if fixed_frame and transforms.moving else None, complain, log.info)
