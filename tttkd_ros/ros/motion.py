"""The vehicle's own motion, as TF tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rclpy.time import Time

from tttkd_ros.geometry.trajectory import VELOCITY_NS, Trajectory
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.ros.tf import known_frames, matrix, start_anew


class TfPoses:
    """Asks TF without ever waiting for it; nothing is kept, and so nothing survives a jump in time.

    buffer: a tf2_ros.Buffer that somebody else fills. fixed_frame: odometry's, in which the vehicle moves smoothly.
    """

    def __init__(self, buffer, fixed_frame: str):
        self._buffer = buffer
        self.fixed_frame = fixed_frame

    def trajectory(self, frame: str, stamps: Sequence[int] | np.ndarray) -> Trajectory:
        """`frame` in the fixed frame at those stamps, as far as TF knows it; else what is needed to go on from there.

        Raises ValueError with the reason where TF cannot tell.
        """
        _, frame = known_frames(self._buffer, self.fixed_frame, frame)
        newest = nanoseconds(self._lookup(frame, 0).header.stamp)
        asked = {int(stamp) for stamp in stamps}
        if newest == 0:  # only static transforms between the two: the same at any time
            newest = max(asked)
        if not self._knows(frame, min(asked)):
            start_anew(self._buffer, min(asked), newest)
        known = {stamp for stamp in asked if stamp <= newest}
        if known != asked:
            known |= {newest - VELOCITY_NS, newest}
        ordered = sorted(known)
        return Trajectory(ordered, [matrix(self._lookup(frame, stamp)) for stamp in ordered])

    def _lookup(self, frame: str, stamp: int):
        """stamp: 0 for the newest."""
        # Asking first keeps the lookup from raising or waiting: the answer is there or it is not.
        time = Time(nanoseconds=stamp)
        known, reason = self._buffer.can_transform(self.fixed_frame, frame, time, return_debug_tuple=True)
        if not known:
            raise ValueError(f"TF does not know {frame!r} in {self.fixed_frame!r}: {reason}")
        return self._buffer.lookup_transform(self.fixed_frame, frame, time)

    def _knows(self, frame: str, stamp: int) -> bool:
        return self._buffer.can_transform(self.fixed_frame, frame, Time(nanoseconds=stamp))


def odometry(buffer, fixed_frame: str, info: Callable[[str], object]) -> TfPoses | None:
    """buffer: a tf2_ros.Buffer, None where there is none. info: told whether images and sweeps are brought together."""
    if not fixed_frame:
        info("motion: off: parameter 'motion.fixed_frame' is empty; points are projected as if the vehicle stood")
    elif buffer is None:
        info(f"motion: off: this ROS has no tf2_ros to look {fixed_frame!r} (parameter 'motion.fixed_frame') up in; "
             "points are projected as if the vehicle stood")
    else:
        info(f"motion: points are projected at the images' time wherever TF tells the motion in {fixed_frame!r}")
        return TfPoses(buffer, fixed_frame)
    return None
