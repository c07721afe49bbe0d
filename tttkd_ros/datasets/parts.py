"""The parts of a source: a bag, a drive of a data set, or a simulated drive.

They hold plain values, so that a worker process can be given one, and open their files when they are first used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets.class_maps import ClassMap
from tttkd_ros.datasets.frames import recorded_frames
from tttkd_ros.datasets.label_files import LabelFiles
from tttkd_ros.datasets.recording import Recording, numbered_files
from tttkd_ros.datasets.registry import module
from tttkd_ros.digests import edge_digests
from tttkd_ros.frame import Frame
from tttkd_ros.simulation.drive import WORLDS, DriveProfile, frames
from tttkd_ros.simulation.shifts import SHIFTS, shifted_frames

if TYPE_CHECKING:
    from tttkd_ros.bags.reader import BagReader

PERIOD = 1.5  # seconds between the sweeps of a simulated drive, so that they differ


class Part(Protocol):
    """One drive. It can be pickled, and yields its frames in order each time it is iterated, never all in memory.

    name: short, unique within its source. inputs: plain values that change with all that the frames depend on.
    labelled: how many sweeps have labels, at most. Length and frames raise ValueError for files that are damaged or
    missing.
    """

    name: str
    inputs: Mapping[str, object]
    labelled: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Frame]: ...


@dataclass(frozen=True)
class BagPart:
    """A bag, and what lies in its folder beside its own files: labels/*.label and rig.yaml.

    Labels are those of the files, see `LabelFiles`, or else the truth that `BagReader` finds. class_set: of the labels,
    as in all parts; None reads none.
    """

    path: Path
    class_set: ClassSet | None

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def place(self) -> str:
        """Where the drive is, for the name if others have the same."""
        return self.path.resolve().parent.name

    @cached_property
    def inputs(self) -> dict[str, object]:
        return {"bag": edge_digests(self.path), "class_set": _version(self.class_set)}

    @property
    def labels(self) -> Path | None:
        """The folder of label files, if labels are read."""
        folder = self.path / "labels"
        return folder if self.class_set is not None and folder.is_dir() else None

    @property
    def rig(self) -> Path | None:
        """The rig file, which overrides CameraInfo and TF."""
        file = self.path / "rig.yaml"
        return file if file.is_file() else None

    @property
    def labelled(self) -> int:
        return len(self) if self.labels is None else len(numbered_files(self.labels, ".label"))

    @cached_property
    def _reader(self) -> BagReader:
        from tttkd_ros.bags.reader import BagReader

        return BagReader(self.path, rig=self.rig, truth=self.class_set is not None and self.labels is None)

    def __len__(self) -> int:
        return len(self._reader)

    def __iter__(self) -> Iterator[Frame]:
        reader = self._reader
        if self.labels is not None:
            files = LabelFiles(self.labels, len(reader), self.class_set, complete=reader.damage is None)
            return files.truth(reader.frames())
        class_map = None if self.class_set is None else class_map_of(reader, self.class_set)
        return mapped(reader.frames(), class_map, f"bag {self.path}")

    def __reduce__(self):
        return BagPart, (self.path, self.class_set)


@dataclass(frozen=True)
class RecordedPart:
    """A drive of a data set: the folder itself, or its scene."""

    kind: str
    folder: Path
    scene: str | None
    class_set: ClassSet | None

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.scene or self.folder.resolve().name}"

    @property
    def place(self) -> str:
        return self.folder.resolve().name if self.scene else self.folder.resolve().parent.name

    @property
    def inputs(self) -> dict[str, object]:
        return {"dataset": self.kind, "scene": self.scene, "class_set": _version(self.class_set),
                **self.recording.inputs}

    @property
    def labelled(self) -> int:
        return len(self) if self.recording.class_set else 0

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.recording.cameras

    @property
    def truth(self) -> str | None:
        """Where the labels are from, in words; None without labels."""
        return f"labels of {self.kind}" if self.recording.class_set else None

    @cached_property
    def recording(self) -> Recording:
        return module(self.kind).open_recording(self.folder, self.scene, self.class_set)

    def __len__(self) -> int:
        return len(self.recording)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, **options) -> Iterator[Frame]:
        """As iteration. options: of `recorded_frames`."""
        return recorded_frames(self.recording, **options)

    def __reduce__(self):
        return RecordedPart, (self.kind, self.folder, self.scene, self.class_set)


@dataclass(frozen=True)
class SimulatedPart:
    """A drive in a world of the simulator, or else under one of its shifts. period: seconds between its sweeps."""

    world: str
    seed: int
    sweeps: int
    class_set: ClassSet | None
    shifted: bool = False
    period: float = PERIOD
    place = "sim"
    truth = "the simulator"

    @property
    def name(self) -> str:
        return f"{self.world}-{self.seed}"

    @property
    def inputs(self) -> dict[str, object]:
        kind = "shift" if self.shifted else "world"
        return {kind: self.world, "seed": self.seed, "sweeps": self.sweeps, "period": self.period,
                "class_set": _version(self.class_set)}

    @property
    def labelled(self) -> int:
        return self.sweeps

    @property
    def cameras(self) -> tuple[str, ...]:
        world = SHIFTS[self.world].world if self.shifted else WORLDS[self.world]
        return tuple(camera.name for camera in world.cameras)

    def __len__(self) -> int:
        return self.sweeps

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, *, tolerance_ns: int = 0) -> Iterator[Frame]:
        """As iteration: every image has its sweep's stamp."""
        if self.shifted:
            drive = shifted_frames(self.world, self.seed, self.sweeps, period=self.period)
        else:
            drive = frames(self.world, self.seed, self.sweeps, DriveProfile(period=self.period))
        if self.class_set is None:
            return (replace(frame, labels=None) for frame in drive)
        same = self.class_set.names == OUTDOOR.names
        return mapped(drive, None if same else ClassMap.between(OUTDOOR, self.class_set), self.name)


def class_map_of(reader: BagReader, class_set: ClassSet) -> ClassMap | None:
    """The map from a bag's labels to a class set's; None if it says that they have it, or does not say anything.

    Raises ValueError if the class set does not list the bag's classes.
    """
    if reader.class_set is None or reader.class_set.names == class_set.names:
        return None
    try:
        return ClassMap.between(reader.class_set, class_set)
    except ValueError as error:
        raise ValueError(f"bag {reader.path} has labels of {reader.class_set}: {error}; or convert it again with "
                         "--class-set, or leave its labels out with --no-truth") from error


def mapped(frames: Iterator[Frame], class_map: ClassMap | None, source: str) -> Iterator[Frame]:
    """The frames with mapped labels. source: their name in errors."""
    for frame in frames:
        if frame.labels is not None and class_map is not None:
            try:
                frame = replace(frame, labels=class_map(frame.labels))
            except ValueError as error:
                raise ValueError(f"{source}, truth stamped {frame.stamp}: {error}") from error
        yield frame


def _version(class_set: ClassSet | None) -> str | None:
    if class_set is None:
        return None
    return hashlib.sha256(json.dumps(class_set.content, sort_keys=True).encode()).hexdigest()
