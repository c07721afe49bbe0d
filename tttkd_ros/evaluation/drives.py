"""Drives to evaluate on, and controls derived from them.

A drive has a length and yields its frames in order each time it is iterated, e.g. a list or a `BagDrive`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from tttkd_ros.adaptation.targets import Teacher
from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets.parts import class_map_of, mapped
from tttkd_ros.frame import Frame
from tttkd_ros.messages.matching import TOLERANCE_S
from tttkd_ros.messages.stamps import SECOND


class Drive(Protocol):
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]: ...


class DescribedDrive(Drive, Protocol):
    """A drive that says what it has, such as `BagDrive`.

    Attributes:
        cameras: names of those that can be used.
        unusable: camera -> why not.
        damage: what a drive that was cut short lacks.
        lidar_frame: frame of the sweeps that name none.
        truth: where the labels are from, in words; None without labels.
    """

    cameras: tuple[str, ...]
    unusable: Mapping[str, str]
    damage: str | None
    lidar_frame: str
    truth: str | None


class BagDrive:
    """A bag's first `limit` sweeps, read again on every iteration. Of a bag that was cut short, those before the cut.

    Args:
        labels: folder of .label files, used as truth instead of the bag's, see `LabelFiles`.
        class_set: the one whose ids the labels become. A bag that does not say which set it has keeps its ids.
        offsets, tolerance: seconds, see `matching`.
        options: further options of `BagReader`, as are the attributes.

    Raises:
        ValueError: the bag cannot be read, an option is out of range, or class_set does not list the truth's classes.
    """

    def __init__(
        self, path: Path, *, limit: int | None = None, labels: Path | None = None, offsets: Sequence[float] = (),
        tolerance: float = TOLERANCE_S, truth: bool = True, class_set: ClassSet = OUTDOOR, **options,
    ):
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit} sweeps, expected at least 1")
        if not all(map(math.isfinite, offsets)):
            raise ValueError(f"offset is {list(offsets)} seconds, expected finite numbers")
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance is {tolerance} seconds, expected 0 or more")
        if labels is not None and not truth:
            raise ValueError("both label files and no truth are asked for: leave out --labels or --no-truth")
        from tttkd_ros.bags.reader import BagReader
        from tttkd_ros.datasets.label_files import LabelFiles

        reader = BagReader(
            path, offsets_ns=[round(offset * SECOND) for offset in offsets], tolerance_ns=round(tolerance * SECOND),
            truth=truth and labels is None, **options,
        )
        self._reader, self._limit = reader, limit
        self._class_map = class_map_of(reader, class_set)
        self._labels = labels and LabelFiles(labels, len(reader), class_set, complete=reader.damage is None)
        self.cameras, self.unusable, self.damage = reader.cameras, reader.unusable, reader.damage
        self.lidar_frame = reader.lidar_frame
        self.truth = reader.truth if labels is None else str(labels)

    def __len__(self) -> int:
        return len(self._reader) if self._limit is None else min(self._limit, len(self._reader))

    def __iter__(self) -> Iterator[Frame]:
        frames = islice(self._reader.frames(), self._limit)
        if self._labels is not None:
            return self._labels.truth(frames)
        return mapped(frames, self._class_map, f"bag {self._reader.path}")


@dataclass(frozen=True)
class DerivedDrive:
    drive: Drive

    def __len__(self) -> int:
        return len(self.drive)


@dataclass(frozen=True)
class OtherImages(DerivedDrive):
    """Control: every sweep gets the images of the sweep half a drive away, and keeps its own geometry and stamps.

    A gain that remains does not come from what the camera sees.
    """

    def __iter__(self) -> Iterator[Frame]:
        half = len(self.drive) // 2
        donors = chain(islice(iter(self.drive), half, None), islice(iter(self.drive), half))
        for frame, donor in zip(self.drive, donors, strict=True):
            images = {view.name: view.image for view in donor.views}
            views = (replace(view, image=images[view.name]) for view in frame.views if view.name in images)
            yield replace(frame, views=tuple(views))


@dataclass(frozen=True)
class Shifted(DerivedDrive):
    """Check: every cloud and its extrinsics are moved along z, as if the sensor were mounted higher. z is in metres."""

    z: float

    def __iter__(self) -> Iterator[Frame]:
        shift = np.array([0.0, 0.0, self.z], np.float32)
        unshift = np.eye(4)
        unshift[2, 3] = -self.z
        for frame in self.drive:
            views = tuple(replace(view, camera_from_lidar=view.camera_from_lidar @ unshift) for view in frame.views)
            deskewed = None if frame.deskewed is None else frame.deskewed + shift
            yield replace(frame, points=frame.points + shift, deskewed=deskewed, views=views)


class MeanFeatures:
    """Control: a teacher that returns one feature map for every image, the mean of another teacher's over some images.

    It knows nothing about the scene, so a gain that remains does not come from the teacher.
    """

    def __init__(self, teacher: Teacher, images: Sequence[np.ndarray]):
        if not len(images):
            raise ValueError("no images: the mean feature map needs at least one")
        self.dim, self.grid = teacher.dim, teacher.grid
        total = sum(teacher([image])[0].double() for image in images)  # one by one, to save memory
        self._map = (total / len(images)).float()

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """(B, rows, columns, dim), a view of the same map for each of B images."""
        return self._map.expand(len(images), *self._map.shape)
