"""Transforms and the vehicle's motion from TF, if this ROS has tf2_ros. No lookup ever waits.

Each `buffer` is a tf2_ros.Buffer that the node's executor fills.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np
import yaml
from rclpy.node import Node
from rclpy.time import Time

from tttkd_ros.geometry.trajectory import VELOCITY_NS, Trajectory
from tttkd_ros.geometry.transforms import transform_of
from tttkd_ros.messages.stamps import SECOND, nanoseconds
from tttkd_ros.names import resolve_frame, without_slash

JUMP_NS = 5 * SECOND  # if TF is further ahead of a stamp that it does not know, it is from before a jump back in time


class TfListener:
    """Fills a buffer from /tf and /tf_static."""

    def __init__(self, node: Node):
        from tf2_ros import Buffer, TransformListener

        self._node = node
        self.buffer = Buffer(node=node)
        self._listener = TransformListener(self.buffer, node)

    def close(self) -> None:
        """Remove from the node what tf2_ros has added to it."""
        self._listener.unregister()
        self._node.destroy_service(self.buffer.srv)
        if (jumps := getattr(self.buffer, "jump_handle", None)) is not None:  # the clock would call it later on
            jumps.unregister()


def listen_to_tf(node: Node) -> TfListener | None:
    """None if this ROS has no tf2_ros."""
    return None if find_spec("tf2_ros") is None else TfListener(node)


class TfTransforms:
    """Extrinsics from TF at the image's time, or the newest ones if TF does not reach that time.

    If the buffer was cleared, the last transform found stands in.
    """

    def __init__(self, buffer):
        self._buffer = buffer
        self._last: dict[tuple[str, str], np.ndarray] = {}

    def rig(self, camera: str) -> None:
        return None

    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, stamp: int) -> np.ndarray:
        return self.lookup(camera_frame, lidar_frame, stamp)

    def lookup(self, target: str, source: str, stamp: int) -> np.ndarray:
        """Look up target_from_source (4, 4) float64 at a stamp (nanoseconds).

        Raises:
            ValueError: if the transform is not known yet, or TF is from before a jump back in time.
        """
        frames = _names_in_tf(self._buffer, target, source)
        for time in (Time(nanoseconds=stamp), Time()):
            # Asking first keeps the lookup from raising or waiting.
            if self._buffer.can_transform(*frames, time):
                found = self._buffer.lookup_transform(*frames, time)
                if time.nanoseconds == 0:
                    _clear_after_jump(self._buffer, stamp, nanoseconds(found.header.stamp))
                self._last[frames] = transform_of(found)
                return self._last[frames]
        if frames not in self._last:
            raise ValueError(f"no transform from {source!r} to {target!r} in TF yet")
        return self._last[frames]


class TfPoses:
    """The vehicle's motion from TF. Nothing is cached, so nothing survives a jump in time.

    Args:
        buffer: see above.
        fixed_frame: odometry's frame, in which the vehicle moves smoothly.
    """

    def __init__(self, buffer, fixed_frame: str):
        self._buffer = buffer
        self._fixed_frame = fixed_frame

    def trajectory(self, frame: str, stamps: Sequence[int] | np.ndarray) -> Trajectory:
        """Look up the poses of `frame` at the stamps (nanoseconds), and what extrapolation needs beyond the newest one.

        Raises:
            ValueError: with the reason, if TF does not know them.
        """
        _, frame = _names_in_tf(self._buffer, self._fixed_frame, frame)
        newest = nanoseconds(self._lookup(frame, 0).header.stamp)
        asked = {int(stamp) for stamp in stamps}
        if newest == 0:  # only static transforms between the two: the same at any time
            newest = max(asked)
        first = min(asked)
        if not self._buffer.can_transform(self._fixed_frame, frame, Time(nanoseconds=first)):
            _clear_after_jump(self._buffer, first, newest)
        known = {stamp for stamp in asked if stamp <= newest}
        if known != asked:
            known |= {newest - VELOCITY_NS, newest}
        ordered = sorted(known)
        return Trajectory(ordered, [transform_of(self._lookup(frame, stamp)) for stamp in ordered])

    def _lookup(self, frame: str, stamp: int):
        """The stamped transform; stamp 0 for the newest."""
        time = Time(nanoseconds=stamp)
        known, reason = self._buffer.can_transform(self._fixed_frame, frame, time, return_debug_tuple=True)
        if not known:
            raise ValueError(f"TF does not know {frame!r} in {self._fixed_frame!r}: {reason}")
        return self._buffer.lookup_transform(self._fixed_frame, frame, time)


def tf_poses(buffer, fixed_frame: str, info: Callable[[str], object]) -> TfPoses | None:
    """The source of the vehicle's motion, None if there is none; `info` logs which.

    Args:
        buffer: None if this ROS has no tf2_ros.
        fixed_frame: empty to switch motion compensation off.
        info: writes a text to the log.
    """
    if fixed_frame and buffer is not None:
        info(f"motion: points are projected at the image's time if TF has the motion in {fixed_frame!r}")
        return TfPoses(buffer, fixed_frame)
    reason = (f"this ROS has no tf2_ros to look up {fixed_frame!r} (parameter 'motion.fixed_frame')" if fixed_frame
              else "parameter 'motion.fixed_frame' is empty")
    info(f"motion: off: {reason}; points are projected as if the vehicle stood still")
    return None


def _clear_after_jump(buffer, stamp: int, newest: int) -> None:
    """Clear a buffer whose newest transform is from before a jump back to `stamp`, and raise ValueError.

    A buffer clears itself only if its clock jumps. A bag that loops without a clock would leave it refusing every new
    transform as too old.
    """
    if stamp < newest - JUMP_NS:
        buffer.clear()
        ahead = (newest - stamp) / SECOND
        raise ValueError(f"TF is {ahead:.0f} s ahead of the sweep: time jumped back, so TF is cleared")


def _names_in_tf(buffer, target: str, source: str) -> tuple[str, str]:
    """TF's names of two frames, see `resolve_frame`. Raises ValueError if a name is ambiguous."""
    target, source = without_slash(target), without_slash(source)
    if buffer.can_transform(target, source, Time()):
        return target, source
    links = yaml.safe_load(buffer.all_frames_as_yaml())
    links = links if isinstance(links, dict) else {}  # tf2 writes an empty list if it knows none
    known = {str(child) for child in links} | {str(link["parent"]) for link in links.values()}
    return resolve_frame(target, known), resolve_frame(source, known)
