"""The frames of a recording, equal to those of the bag that it converts to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from tttkd_ros.datasets.recording import Recording
from tttkd_ros.frame import Frame, truth_of_returns
from tttkd_ros.geometry.trajectory import Compensation, Trajectory
from tttkd_ros.messages.matching import TOLERANCE_S
from tttkd_ros.messages.stamps import SECOND


def recorded_frames(recording: Recording, *, tolerance_ns: int = round(TOLERANCE_S * SECOND)) -> Iterator[Frame]:
    """Yield the frames in order, at most two in memory.

    As in a bag, views follow the vehicle's motion between sweep and image, images that are too far from their sweep are
    left out, and only returns have a class. tolerance_ns: largest distance in stamp.
    """
    sweeps = (recording[index] for index in range(len(recording)))
    current, before = next(sweeps, None), ()
    for following in chain(sweeps, [None]):
        # Images lie between the poses of their sweep and of its neighbours.
        yield _as_replayed(current.frame, [*before, *current.poses, *(following.poses if following else ())],
                           tolerance_ns)
        current, before = following, current.poses


def _as_replayed(frame: Frame, poses: Sequence[tuple[int, np.ndarray]], tolerance_ns: int) -> Frame:
    motion = Compensation((lambda *_: Trajectory(*zip(*poses, strict=True))) if poses else None)
    views, missing = [], {}
    for view in frame.views:
        distance = abs(view.stamp - frame.stamp)
        if distance > tolerance_ns:
            missing[view.name] = (f"its image is {distance / 1e6:.0f} ms from the sweep, more than the tolerance of "
                                  f"{tolerance_ns / 1e6:.0f} ms")
            continue
        moved = motion.between("", view.stamp, frame.stamp)
        views.append(replace(view, camera_from_lidar=view.camera_from_lidar @ moved))
    labels = None if frame.labels is None else truth_of_returns(frame.labels, frame.points)
    return replace(frame, views=tuple(views), labels=labels, missing=missing)
