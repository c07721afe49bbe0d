"""The frames that /tf ties together, with those of /tf_static between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np

from tttkd_ros.bags.static_transforms import LATEST, StaticTransforms, told
from tttkd_ros.geometry.trajectory import Trajectory
from tttkd_ros.messages.stamps import SECOND, nanoseconds
from tttkd_ros.names import without_slash

Link = np.ndarray | Trajectory  # parent_from_child, (4, 4) or at any time


class MovingTransforms:
    """messages: gives all tf2_msgs/TFMessage of /tf; asked for when they are first needed, and then kept, for what asks
    for poses may be recorded before them. Of a child's several parents the last one told holds."""

    def __init__(self, messages: Callable[[], Iterable], statics: StaticTransforms):
        self._messages = messages
        self._statics = statics

    @property
    def frames(self) -> set[str]:
        return {*self._links, *(parent for parent, _ in self._links.values())}

    def trajectory(self, target: str, source: str, time: int = LATEST) -> Trajectory:
        """The source's poses in the target, at every stamp of a transform that ties the two, interpolated where there
        are several such links. time: when the static transforms between them were received at the latest, ns.

        Raises ValueError where nothing ties them, they do not move, or time jumps back in /tf.
        """
        to_root, from_root = self._ancestors(without_slash(source), time), self._ancestors(without_slash(target), time)
        common = next((frame for frame in to_root if frame in from_root), None)
        if common is None:
            raise ValueError(f"/tf and /tf_static tie {source!r} to {list(to_root)[-1]!r} at the most, not to "
                             f"{target!r}")
        up, down = to_root[common], from_root[common]
        joints = [link for link in (*up, *down) if isinstance(link, Trajectory)]
        if not joints:
            raise ValueError(f"{source!r} does not move in {target!r}")
        first, last = max(joint.first for joint in joints), min(joint.last for joint in joints)
        stamps = np.unique(np.concatenate([joint.stamps for joint in joints]))
        stamps = stamps[(stamps >= first) & (stamps <= last)]
        if not len(stamps):
            raise ValueError(f"the transforms that tie {source!r} to {target!r} are never known at one time")
        return Trajectory(stamps, np.linalg.inv(_climb(down, stamps)) @ _climb(up, stamps))

    def _ancestors(self, frame: str, time: int) -> dict[str, tuple[Link, ...]]:
        """Ancestor -> the links from the frame up to it, from the frame itself to its root."""
        found: dict[str, tuple[Link, ...]] = {frame: ()}
        while (link := self._links.get(frame) or self._statics.parent(frame, time)) is not None:
            parent, parent_from_child = link
            if parent in found:
                raise ValueError(f"transforms go in a circle through {parent!r}")
            found[parent] = *found[frame], parent_from_child
            frame = parent
        return found

    @property
    def _links(self) -> dict[str, tuple[str, Trajectory]]:
        """Child -> parent and parent_from_child."""
        if isinstance(self._read, ValueError):
            raise self._read
        return self._read

    @cached_property
    def _read(self) -> dict[str, tuple[str, Trajectory]] | ValueError:
        """The links, or why there are none: a second reading would fail, too."""
        try:
            return self._read_links()
        except ValueError as error:
            return error

    def _read_links(self) -> dict[str, tuple[str, Trajectory]]:
        links: dict[str, tuple[str, list[int], list[np.ndarray]]] = {}
        for message in self._messages():
            for stamped in message.transforms:
                parent, child, matrix = told(stamped)
                stamp = nanoseconds(stamped.header.stamp)
                if child not in links or links[child][0] != parent:
                    links[child] = parent, [], []
                _, stamps, matrices = links[child]
                if stamps and stamp < stamps[-1] - SECOND:
                    raise ValueError(f"time jumps back by {(stamps[-1] - stamp) / SECOND:.1f} s in /tf: one stamp has "
                                     "two poses")
                stamps.append(stamp)
                matrices.append(matrix)
        return {child: (parent, Trajectory(stamps, matrices)) for child, (parent, stamps, matrices) in links.items()}


def _climb(links: tuple[Link, ...], stamps: np.ndarray) -> np.ndarray:
    """(K, 4, 4): from the first link's child to the last one's parent, at each stamp (K,)."""
    poses = np.tile(np.eye(4), (len(stamps), 1, 1))
    for link in links:
        poses = (link.at(stamps) if isinstance(link, Trajectory) else link) @ poses
    return poses
