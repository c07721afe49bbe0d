"""The frames that /tf_static ties together."""

from __future__ import annotations

import numpy as np

from tttkd_ros.geometry.transforms import inverse, transform


class StaticTransforms:
    """Frames as trees, each frame with its place in its parent; of several places the last told holds, as in tf2."""

    def __init__(self):
        self._parents: dict[str, tuple[str, np.ndarray]] = {}  # child -> parent, parent_from_child (4, 4)

    def add(self, msg) -> None:
        """msg: a tf2_msgs/TFMessage. Raises ValueError where a transform is no rotation and translation."""
        for stamped in msg.transforms:
            parent, child, parent_from_child = told(stamped)
            self._parents[child] = parent, parent_from_child

    def parent(self, frame: str) -> tuple[str, np.ndarray] | None:
        """The frame's parent and parent_from_frame (4, 4); None where it has none."""
        return self._parents.get(plain(frame))

    def lookup(self, target: str, source: str) -> np.ndarray:
        """target_from_source (4, 4) float64. Raises ValueError where the two are not tied together."""
        from_target, from_source = self._ancestors(plain(target)), self._ancestors(plain(source))
        common = next((frame for frame in from_source if frame in from_target), None)
        if common is None:
            known = ", ".join(sorted({*self._parents, *(parent for parent, _ in self._parents.values())}))
            raise ValueError(f"no static transform ties {source!r} to {target!r}; known frames: {known or 'none'}")
        return inverse(from_target[common]) @ from_source[common]

    def _ancestors(self, frame: str) -> dict[str, np.ndarray]:
        """Ancestor -> ancestor_from_frame, from the frame itself up to its root."""
        found = {frame: np.eye(4)}
        while frame in self._parents:
            parent, parent_from_child = self._parents[frame]
            if parent in found:
                raise ValueError(f"static transforms go in a circle through {parent!r}")
            found[parent] = parent_from_child @ found[frame]
            frame = parent
        return found


def told(stamped) -> tuple[str, str, np.ndarray]:
    """geometry_msgs/TransformStamped -> parent, child, parent_from_child (4, 4). ValueError: it is no rigid one."""
    move, turn = stamped.transform.translation, stamped.transform.rotation
    matrix = transform((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
    return plain(stamped.header.frame_id), plain(stamped.child_frame_id), matrix


def plain(frame: str) -> str:
    return frame.removeprefix("/")  # ROS 1 habits survive in drivers
