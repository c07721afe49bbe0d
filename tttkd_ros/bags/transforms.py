"""Where frames are in one another, by all the /tf_static and /tf topics of a bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.moving_transforms import MovingTransforms
from tttkd_ros.bags.static_transforms import StaticTransforms
from tttkd_ros.bags.storage import Bag
from tttkd_ros.geometry.trajectory import Trajectory
from tttkd_ros.names import resolve_frame, without_slash


class Transforms:
    """All topics of a name count, in whatever namespace. If two of them place one frame, the one that is nearer to the
    sweeps' namespace holds, and that of the root before those of others. Of a tf prefix: see `resolve_frame`.

    bag: open; /tf_static is read at once. reopen: opens the bag again, to read /tf when it is first needed. Raises
    ValueError if a static transform is no rotation and translation.
    """

    def __init__(self, bag: Bag, reopen: Callable[[], AbstractContextManager[Bag]], points_topic: str):
        self._statics = StaticTransforms()
        for topic, received, message in _messages(bag, topics.transform_topics(bag.types, "tf_static", points_topic)):
            try:
                self._statics.add(message, received)
            except ValueError as error:
                raise ValueError(f"bag {bag.path}, {topic}: {error}") from error
        moving = topics.transform_topics(bag.types, "tf", points_topic)

        def moving_messages() -> Iterator[SimpleNamespace]:
            with reopen() as opened:
                for _, _, message in _messages(opened, moving):
                    yield message

        self._moving = MovingTransforms(moving_messages, self._statics) if moving else None
        self._trajectory = lru_cache(maxsize=16)(self._make_trajectory)

    @property
    def moving(self) -> bool:
        """Whether there is a /tf."""
        return self._moving is not None

    def lookup(self, target: str, source: str, stamp: int, received: int) -> np.ndarray:
        """target_from_source (4, 4) float64.

        stamp (ns): for /tf, clamped to the time at which it ties the two. received (ns): of the message in question,
        for /tf_static. Raises ValueError if nothing ties the two.
        """
        try:
            return self._statics.lookup(self._known(target), self._known(source), received)
        except ValueError:
            if self._moving is None:
                raise
        trajectory = self.trajectory(target, source, received)
        return trajectory.at([min(max(stamp, trajectory.first), trajectory.last)])[0]

    def trajectory(self, target: str, source: str, received: int) -> Trajectory:
        """As that of `MovingTransforms`. Raises ValueError, too, if there is no /tf."""
        return self._trajectory(self._known(target), self._known(source), self._statics.unchanged_since(received))

    def _make_trajectory(self, target: str, source: str, received: int) -> Trajectory:
        if self._moving is None:
            raise ValueError("the bag has no /tf")
        return self._moving.trajectory(target, source, received)

    def _known(self, frame: str) -> str:
        known = self._statics.frames
        if without_slash(frame) not in known and self._moving is not None:
            known |= self._moving.frames
        return resolve_frame(frame, known)


def _messages(bag: Bag, ranked: list[str]) -> Iterator[tuple[str, int, SimpleNamespace]]:
    """Topic, time of receipt and message of each topic, less the children that a topic before it has placed."""
    placed: set[str] = set()
    for topic in ranked:
        here = set()
        for record in bag.messages([topic]):
            links = [link for link in bag.decode(record).transforms if without_slash(link.child_frame_id) not in placed]
            here.update(without_slash(link.child_frame_id) for link in links)
            yield topic, record.time, SimpleNamespace(transforms=links)
        placed |= here
