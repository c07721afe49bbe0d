"""TF where this ROS has tf2_ros: a buffer that fills itself, until it is closed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import yaml
from rclpy.node import Node
from rclpy.time import Time

from tttkd_ros.geometry.transforms import transform
from tttkd_ros.messages.stamps import SECOND
from tttkd_ros.names import resolve_frame, without_slash

JUMP_NS = 5 * SECOND  # TF that is further ahead of a stamp, and does not know its time, is from before a jump back


class Tf:
    """buffer: a tf2_ros.Buffer, filled by the node's executor. From Jazzy on it clears itself where the node's clock
    jumps back, as simulated time does."""

    def __init__(self, node: Node):
        from tf2_ros import Buffer, TransformListener

        self._node = node
        self.buffer = Buffer(node=node)
        self._listener = TransformListener(self.buffer, node)

    def close(self) -> None:
        """Takes off the node what tf2_ros put on it."""
        self._listener.unregister()
        self._node.destroy_service(self.buffer.srv)
        jumps = getattr(self.buffer, "jump_handle", None)  # from Jazzy on
        if jumps is not None:  # the clock would go on to call it when the buffer is long gone
            jumps.unregister()


def listen(node: Node) -> Tf | None:
    """None where this ROS has no tf2_ros."""
    return None if find_spec("tf2_ros") is None else Tf(node)


def start_anew(buffer, stamp: int, newest: int) -> None:
    """Raise ValueError, and clear the buffer, where its newest transform (ns) is from before a jump back to `stamp`.

    A buffer clears itself only where its clock jumps. A looping bag without a clock leaves it refusing every new
    transform as too old.
    """
    if stamp < newest - JUMP_NS:
        buffer.clear()
        ahead = (newest - stamp) / SECOND
        raise ValueError(f"TF is {ahead:.0f} s ahead of the sweep: time jumped back, and TF starts anew")


def known_frames(buffer, target: str, source: str) -> tuple[str, str]:
    """What TF calls the two frames (see `resolve_frame`). Raises ValueError if one of them could be several."""
    target, source = without_slash(target), without_slash(source)
    if buffer.can_transform(target, source, Time()):
        return target, source
    links = yaml.safe_load(buffer.all_frames_as_yaml())
    links = links if isinstance(links, dict) else {}  # tf2 writes an empty list if it knows none
    known = {str(child) for child in links} | {str(link["parent"]) for link in links.values()}
    return resolve_frame(target, known), resolve_frame(source, known)


def matrix(stamped) -> np.ndarray:
    """geometry_msgs/TransformStamped -> (4, 4) float64. Raises ValueError where it is no rotation and translation."""
    t, q = stamped.transform.translation, stamped.transform.rotation
    return transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
