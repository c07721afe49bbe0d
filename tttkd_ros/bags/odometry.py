"""Where the LiDAR was, by a bag's /tf."""

from __future__ import annotations

import logging
from pathlib import Path

from tttkd_ros.bags.moving_transforms import MovingTransforms
from tttkd_ros.geometry.compensation import Compensation

log = logging.getLogger(__name__)


def compensation(bag: Path, moving: MovingTransforms | None, fixed_frame: str, lidar_frame: str) -> Compensation:
    """moving: None where the bag has no /tf. fixed_frame: odometry's; empty to take the vehicle as standing."""
    complained: set[str] = set()

    def complain(problem: str) -> None:
        kind = problem.partition(":")[0]
        if kind not in complained:
            complained.add(kind)
            log.warning("bag %s, a sweep and perhaps others: %s", bag, problem)

    odometry = None
    if fixed_frame and moving is not None:
        try:
            odometry = moving.trajectory(fixed_frame, lidar_frame)
        except ValueError as error:
            log.warning("bag %s: points are projected as if the vehicle stood: %s", bag, error)
    return Compensation(odometry and (lambda frame, stamps: odometry), complain, log.info)
