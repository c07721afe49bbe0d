"""TF where this ROS has tf2_ros: a buffer that fills itself, until it is closed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from rclpy.node import Node

from tttkd_ros.geometry.transforms import transform


class Tf:
    """buffer: a tf2_ros.Buffer, filled by the node's executor, cleared where the node's clock jumps back."""

    def __init__(self, node: Node):
        from tf2_ros import Buffer, TransformListener

        self._node = node
        self.buffer = Buffer(node=node)
        self._listener = TransformListener(self.buffer, node)

    def close(self) -> None:
        """Takes off the node what tf2_ros put on it."""
        self._listener.unregister()
        self._node.destroy_service(self.buffer.srv)


def listen(node: Node) -> Tf | None:
    """None where this ROS has no tf2_ros."""
    return None if find_spec("tf2_ros") is None else Tf(node)


def matrix(stamped) -> np.ndarray:
    """geometry_msgs/TransformStamped -> (4, 4) float64. Raises ValueError where it is no rotation and translation."""
    t, q = stamped.transform.translation, stamped.transform.rotation
    return transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))
