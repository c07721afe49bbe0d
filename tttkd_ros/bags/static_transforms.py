"""The frames that /tf_static ties together, at any time of a recording."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection

import numpy as np

from tttkd_ros.geometry.transforms import inverse, transform
from tttkd_ros.names import without_slash

LATEST = 2**63 - 1


class StaticTransforms:
    """Frames as trees, each frame with its place in its parent.

    Of several places of one frame, the one that was received last before the time in question holds, as in tf2; before
    the first one was, that one.
    """

    def __init__(self):
        # child -> when each place was received, and parent and parent_from_child (4, 4)
        self._places: dict[str, tuple[list[int], list[tuple[str, np.ndarray]]]] = {}
        self._changes: list[int] = []  # when a frame got another place, ascending

    @property
    def children(self) -> Collection[str]:
        return self._places.keys()

    @property
    def frames(self) -> set[str]:
        return {*self._places, *(parent for _, places in self._places.values() for parent, _ in places)}

    def add(self, msg, received: int = 0) -> None:
        """msg: a tf2_msgs/TFMessage, received at that time (ns), not before others that hold the same frames.

        Raises ValueError if a transform is no rotation and translation.
        """
        for stamped in msg.transforms:
            parent, child, parent_from_child = told(stamped)
            times, places = self._places.setdefault(child, ([], []))
            if places and places[-1][0] == parent and np.array_equal(places[-1][1], parent_from_child):
                continue  # many are published again and again
            if places and received > times[-1]:
                self._changes.insert(bisect_right(self._changes, received), received)
            times.append(received)
            places.append((parent, parent_from_child))

    def parent(self, frame: str, time: int = LATEST) -> tuple[str, np.ndarray] | None:
        """The frame's parent and parent_from_frame (4, 4) at that time (ns, of receipt); None if it has none."""
        times, places = self._places.get(without_slash(frame), ((), ()))
        return places[max(bisect_right(times, time) - 1, 0)] if places else None

    def unchanged_since(self, time: int) -> int:
        """The last time, up to that one, at which a frame got another place; 0 if none has."""
        index = bisect_right(self._changes, time)
        return self._changes[index - 1] if index else 0

    def lookup(self, target: str, source: str, time: int = LATEST) -> np.ndarray:
        """target_from_source (4, 4) float64 at that time. Raises ValueError if the two are not tied together."""
        from_target = self._ancestors(without_slash(target), time)
        from_source = self._ancestors(without_slash(source), time)
        common = next((frame for frame in from_source if frame in from_target), None)
        if common is None:
            known = ", ".join(sorted(self.frames))
            raise ValueError(f"no static transform ties {source!r} to {target!r}; known frames: {known or 'none'}")
        return inverse(from_target[common]) @ from_source[common]

    def _ancestors(self, frame: str, time: int) -> dict[str, np.ndarray]:
        """Ancestor -> ancestor_from_frame, from the frame itself up to its root."""
        found = {frame: np.eye(4)}
        while (place := self.parent(frame, time)) is not None:
            parent, parent_from_child = place
            if parent in found:
                raise ValueError(f"static transforms go in a circle through {parent!r}")
            found[parent] = parent_from_child @ found[frame]
            frame = parent
        return found


def told(stamped) -> tuple[str, str, np.ndarray]:
    """geometry_msgs/TransformStamped -> parent, child, parent_from_child (4, 4). ValueError: it is no rigid one."""
    move, turn = stamped.transform.translation, stamped.transform.rotation
    matrix = transform((move.x, move.y, move.z), (turn.x, turn.y, turn.z, turn.w))
    return without_slash(stamped.header.frame_id), without_slash(stamped.child_frame_id), matrix
