"""Where the LiDAR was, by a bag's /tf."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.static_transforms import StaticTransforms, plain, told
from tttkd_ros.bags.storage import Bag
from tttkd_ros.geometry.compensation import Compensation
from tttkd_ros.geometry.motion import Trajectory
from tttkd_ros.messages.stamps import SECOND, nanoseconds

log = logging.getLogger(__name__)


def compensation(bag: Bag, fixed_frame: str, lidar_frame: str, statics: StaticTransforms) -> Compensation:
    """By the bag's /tf, which is read whole: sweeps ask for poses that may be recorded behind them."""
    complained: set[str] = set()

    def complain(problem: str) -> None:
        kind = problem.partition(":")[0]
        if kind not in complained:
            complained.add(kind)
            log.warning("bag %s, a sweep and perhaps others: %s", bag.path, problem)

    odometry = None
    if fixed_frame and bag.types.get(topics.MOVING_TOPIC) == topics.TRANSFORMS:
        try:
            messages = (bag.decode(record) for record in bag.messages([topics.MOVING_TOPIC]))
            odometry = lidar_trajectory(messages, fixed_frame, lidar_frame, statics)
        except ValueError as error:
            log.warning("bag %s: points are projected as if the vehicle stood: %s", bag.path, error)
    return Compensation(odometry and (lambda frame, stamps: odometry), complain, log.info)


def lidar_trajectory(messages: Iterable, fixed_frame: str, lidar_frame: str, statics: StaticTransforms) -> Trajectory:
    """messages: the tf2_msgs/TFMessage of /tf. The LiDAR's poses in the fixed frame, at every stamp of a transform that
    ties the two, interpolated where there are several such links.

    Raises ValueError where nothing ties them, they do not move, or time jumps back in between.
    """
    moving = _links(messages)
    chain, frame = [], plain(lidar_frame)
    fixed, seen = plain(fixed_frame), set()
    while frame != fixed:
        if frame in seen:
            raise ValueError(f"transforms go in a circle through {frame!r}")
        seen.add(frame)
        link = moving.get(frame) or statics.parent(frame)
        if link is None:
            raise ValueError(f"/tf and /tf_static tie {lidar_frame!r} to {frame!r} at the most, not to {fixed_frame!r}")
        frame = link[0]
        chain.append(link[1])
    joints = [link for link in chain if isinstance(link, Trajectory)]
    if not joints:
        raise ValueError(f"{lidar_frame!r} does not move in {fixed_frame!r}")
    first, last = max(joint.first for joint in joints), min(joint.last for joint in joints)
    stamps = np.unique(np.concatenate([joint.stamps for joint in joints]))
    stamps = stamps[(stamps >= first) & (stamps <= last)]
    if not len(stamps):
        raise ValueError(f"the transforms that tie {lidar_frame!r} to {fixed_frame!r} are never known at one time")
    poses = np.eye(4)
    for link in chain:
        poses = (link.at(stamps) if isinstance(link, Trajectory) else link) @ poses
    return Trajectory(stamps, poses)


def _links(messages: Iterable) -> dict[str, tuple[str, Trajectory]]:
    """Child -> parent and parent_from_child; of several parents the last one told."""
    links: dict[str, tuple[str, list[int], list[np.ndarray]]] = {}
    for message in messages:
        for stamped in message.transforms:
            parent, child, matrix = told(stamped)
            stamp = nanoseconds(stamped.header.stamp)
            if child not in links or links[child][0] != parent:
                links[child] = parent, [], []
            _, stamps, matrices = links[child]
            if stamps and stamp < stamps[-1] - SECOND:
                raise ValueError(f"time jumps back by {(stamps[-1] - stamp) / SECOND:.1f} s in /tf: one stamp has two "
                                 "poses")
            stamps.append(stamp)
            matrices.append(matrix)
    return {child: (parent, Trajectory(stamps, matrices)) for child, (parent, stamps, matrices) in links.items()}
