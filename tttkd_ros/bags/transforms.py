"""The pose of one frame in another, from all /tf_static and /tf topics of a bag."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import Bag
from tttkd_ros.geometry.trajectory import Compensation, Trajectory
from tttkd_ros.geometry.transforms import inverse, transform_of
from tttkd_ros.messages.stamps import SECOND, nanoseconds
from tttkd_ros.names import resolve_frame, without_slash

log = logging.getLogger(__name__)

Pose = np.ndarray | Trajectory  # (4, 4), or one that moves


class Received(NamedTuple):
    """The frame id of a sweep, and when the sweep was received (ns): the mount of a frame may change."""

    frame: str
    time: int


class _Link(NamedTuple):
    child: str
    parent: str
    parent_from_child: Pose
    stamp: int  # ns
    received: int  # ns


Links = Mapping[str, _Link]  # by child


class Transforms:
    """Looks up transforms between the frames of a bag. Raises ValueError if a static one is not rigid.

    If two topics place the same frame, the one nearer to the sweeps' namespace wins (`topics.transform_topics`). As in
    tf2, a static transform holds from its receipt on until the next one for the frame; the first one also before.
    pytransform3d never changes a frame's parent, and interpolates along a screw, unlike tf2.

    reopen: opens the bag again, to read /tf when it is first needed.
    """

    def __init__(self, bag: Bag, reopen: Callable[[], AbstractContextManager[Bag]], points_topic: str):
        self._path = bag.path
        self._reopen = reopen
        self._moving_topics = topics.transform_topics(bag.types, "tf", points_topic)
        self._moving: Links | ValueError | None = None
        self._static: dict[str, list[_Link]] = {}  # child -> its different links, in the order of receipt
        for link in _read_links(bag, topics.transform_topics(bag.types, "tf_static", points_topic)):
            history = self._static.setdefault(link.child, [])
            if not (history and history[-1].parent == link.parent
                    and (history[-1].parent_from_child == link.parent_from_child).all()):
                history.append(link)
        self._static_frames = _frames(link for history in self._static.values() for link in history)
        self._changes = sorted(link.received for history in self._static.values() for link in history[1:])
        self._cached_trajectory = lru_cache(maxsize=16)(self._make_trajectory)

    def lookup(self, target: str, source: str, stamp: int, received: int) -> np.ndarray:
        """Look up target_from_source, (4, 4) float64. Raises ValueError if nothing connects the frame ids.

        stamp: time of the pose on /tf (ns), clamped to the time over which /tf connects the frames. received: receipt
        of the message in question (ns), which selects the static transforms.
        """
        try:
            down, up = self._connect(self._resolve(target), self._resolve(source), received, {})
            return inverse(_compose(down)) @ _compose(up)
        except ValueError:
            if not self._moving_topics:
                raise
        trajectory = self.trajectory(target, source, received)
        return trajectory.at([min(max(stamp, trajectory.first), trajectory.last)])[0]

    def trajectory(self, target: str, source: str, received: int) -> Trajectory:
        """The poses of the source frame in the target frame, at every stamp of every moving link between the two.

        Raises ValueError if no transforms connect the frames, or they do not move, or time jumps back on /tf.
        """
        index = bisect_right(self._changes, received)
        since = self._changes[index - 1] if index else 0
        return self._cached_trajectory(self._resolve(target), self._resolve(source), since)

    def compensation(self, fixed_frame: str) -> Compensation:
        """Make a `Compensation` whose LiDAR frames are `Received`. fixed_frame: odometry's; empty for no motion."""
        warned: set[str] = set()

        def warn(problem: str) -> None:
            kind = problem.partition(":")[0]
            if kind not in warned:
                log.warning("bag %s, a sweep and perhaps others: %s", self._path, problem)
            warned.add(kind)

        def trajectory(lidar: Received, stamps) -> Trajectory:
            return self.trajectory(fixed_frame, lidar.frame, lidar.time)

        return Compensation(trajectory if fixed_frame and self._moving_topics else None, warn, log.info)

    def _make_trajectory(self, target: str, source: str, received: int) -> Trajectory:
        down, up = self._connect(target, source, received, self._moving_links())
        moving = [pose for pose in (*up, *down) if isinstance(pose, Trajectory)]
        if not moving:
            raise ValueError(f"{source!r} does not move in {target!r}")
        stamps = np.unique(np.concatenate([each.stamps for each in moving]))
        first, last = max(each.first for each in moving), min(each.last for each in moving)
        stamps = stamps[(stamps >= first) & (stamps <= last)]
        if not len(stamps):
            raise ValueError(f"the transforms between {source!r} and {target!r} are never known at the same time")
        return Trajectory(stamps, np.linalg.inv(_compose(down, stamps)) @ _compose(up, stamps))

    def _connect(self, target: str, source: str, received: int, moving: Links) -> tuple[list[Pose], list[Pose]]:
        """The links from the target, and those from the source, up to their nearest common ancestor."""
        above_target, above_source = (self._ancestors(frame, received, moving) for frame in (target, source))
        common = next((frame for frame in above_source if frame in above_target), None)
        if common is None:
            known = ", ".join(sorted(self._static_frames | _frames(moving.values())))
            raise ValueError(f"no transform connects {source!r} to {target!r}, only to {list(above_source)[-1]!r}; "
                             f"known frames: {known or 'none'}")
        return above_target[common], above_source[common]

    def _ancestors(self, frame: str, received: int, moving: Links) -> dict[str, list[Pose]]:
        """Ancestor -> the links from the frame up to it; from the frame itself to its root."""
        found: dict[str, list[Pose]] = {frame: []}
        while (link := moving.get(frame)) or (history := self._static.get(frame)):
            if link is None:
                link = history[max(bisect_right(history, received, key=lambda each: each.received) - 1, 0)]
            if link.parent in found:
                raise ValueError(f"transforms go in a circle through {link.parent!r}")
            found[link.parent] = [*found[frame], link.parent_from_child]
            frame = link.parent
        return found

    def _resolve(self, frame: str) -> str:
        known = self._static_frames
        if without_slash(frame) not in known and self._moving_topics:
            known = known | _frames(self._moving_links().values())
        return resolve_frame(frame, known)

    def _moving_links(self) -> Links:
        """Read /tf once, even if it fails: it is as long as the bag."""
        if self._moving is None:
            try:
                self._moving = self._read_moving()
            except ValueError as error:
                self._moving = error
        if isinstance(self._moving, ValueError):
            raise self._moving
        return self._moving

    def _read_moving(self) -> Links:
        links: dict[str, list[_Link]] = {}  # child -> its links to its last parent
        with self._reopen() as bag:
            for link in _read_links(bag, self._moving_topics):
                history = links.setdefault(link.child, [])
                if history and history[-1].parent != link.parent:
                    history.clear()
                if history and (back := history[-1].stamp - link.stamp) > SECOND:
                    raise ValueError(f"time jumps back by {back / SECOND:.1f} s on /tf: a stamp has two poses")
                history.append(link)
        moving = {}
        for child, history in links.items():
            path = Trajectory([link.stamp for link in history], [link.parent_from_child for link in history])
            moving[child] = history[-1]._replace(parent_from_child=path)
        return moving


def parse_transform(stamped) -> tuple[str, str, np.ndarray]:
    """Child, parent and parent_from_child (4, 4) of a TransformStamped. Raises ValueError if it is not rigid."""
    return without_slash(stamped.child_frame_id), without_slash(stamped.header.frame_id), transform_of(stamped)


def _read_links(bag: Bag, ranked_topics: Sequence[str]) -> Iterator[_Link]:
    """All transforms of each topic, except for frames that a topic before it has placed."""
    placed: set[str] = set()
    for topic in ranked_topics:
        here = set()
        for record in bag.messages([topic]):
            for stamped in bag.decode(record).transforms:
                if without_slash(stamped.child_frame_id) in placed:
                    continue
                try:
                    link = _Link(*parse_transform(stamped), nanoseconds(stamped.header.stamp), record.time)
                except ValueError as error:
                    raise ValueError(f"bag {bag.path}, {topic}: {error}") from error
                here.add(link.child)
                yield link
        placed |= here


def _frames(links: Iterable[_Link]) -> set[str]:
    return {frame for link in links for frame in (link.child, link.parent)}


def _compose(poses: Sequence[Pose], stamps: np.ndarray | Sequence[int] = ()) -> np.ndarray:
    """The last link's parent from the first link's child: (4, 4), or (K, 4, 4) at the stamps (K,) if a link moves."""
    composed = np.eye(4)
    for pose in poses:
        composed = (pose.at(stamps) if isinstance(pose, Trajectory) else pose) @ composed
    return composed
