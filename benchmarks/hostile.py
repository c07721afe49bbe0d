"""Drives whose cameras are wrong for a while, which is what the guard protects against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.transforms import transform

DEGREES = 5.0

Attack = Callable[[View, View, np.random.Generator], View]


def _rotate(axis: int) -> Attack:
    """Extrinsics wrong by `DEGREES` about an axis of the camera: 0 pitch, 1 yaw, 2 roll."""
    quaternion = [0.0, 0.0, 0.0, np.cos(np.deg2rad(DEGREES) / 2)]
    quaternion[axis] = np.sin(np.deg2rad(DEGREES) / 2)
    wrong = transform((0, 0, 0), quaternion)
    return lambda view, donor, generator: replace(view, camera_from_lidar=wrong @ view.camera_from_lidar)


def _use_donor(view: View, donor: View, generator: np.random.Generator) -> View:
    return replace(view, image=donor.image)


def _noise(view: View, donor: View, generator: np.random.Generator) -> View:
    return replace(view, image=generator.integers(0, 256, view.image.shape, np.uint8))


def _cover(view: View, donor: View, generator: np.random.Generator) -> View:
    """Almost no light, and the sensor's noise."""
    return replace(view, image=generator.integers(0, 12, view.image.shape, np.uint8))


# Arguments: a view, the same camera's view elsewhere in the drive, a generator. "frozen image" shows the last good one.
KINDS: dict[str, Attack] = {
    "yaw 5 deg": _rotate(1),
    "pitch 5 deg": _rotate(0),
    "roll 5 deg": _rotate(2),
    "other images": _use_donor,
    "frozen image": _use_donor,
    "noise": _noise,
    "covered lens": _cover,
}


@dataclass(frozen=True)
class Hostile:
    """`drive` with the views of sweeps `first` to `last` (exclusive) replaced. Clouds, stamps and truth stay.

    kind: one of `KINDS`.
    """

    drive: Drive
    kind: str
    first: int
    last: int
    seed: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}, expected one of {', '.join(KINDS)}")
        if not 0 <= self.first < self.last <= len(self.drive):
            raise ValueError(f"sweeps {self.first} to {self.last} are not within the drive's {len(self.drive)}")

    def __len__(self) -> int:
        return len(self.drive)

    def __iter__(self) -> Iterator[Frame]:
        generator = np.random.default_rng(self.seed)
        frames = list(self.drive)
        half = len(frames) // 2
        for number, frame in enumerate(frames):
            if not self.first <= number < self.last:
                yield frame
                continue
            source = max(self.first - 1, 0) if self.kind == "frozen image" else (number + half) % len(frames)
            donors = {view.name: view for view in frames[source].views}
            views = [KINDS[self.kind](view, donors.get(view.name, view), generator) for view in frame.views]
            yield replace(frame, views=tuple(views))
