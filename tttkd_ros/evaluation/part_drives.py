"""The parts of sources as drives to evaluate on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tttkd_ros.classes import ClassSet
from tttkd_ros.datasets.parts import BagPart, RecordedPart, SimulatedPart
from tttkd_ros.datasets.source import open_source
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.inputs import unique_names
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.mounting import BASE_FRAME
from tttkd_ros.messages.matching import TOLERANCE_S
from tttkd_ros.messages.stamps import SECOND

PURPOSE = "examples"  # of simulated drives: neither training nor validation uses them
# Options that only bags have -> their defaults.
BAG_OPTIONS = {
    "rig": None, "labels": None, "points_topic": None, "truth_topic": None, "offset": (), "fixed_frame": "odom",
    "base_frame": BASE_FRAME, "channel_order": "refuse", "time_unit": "auto",
}  # fmt: skip


class PartDrive:
    """The first `limit` sweeps of a part that is no bag, read again on every iteration.

    cameras: names of those to use, all by default. tolerance: seconds, see `recorded_frames`. The attributes are those
    of `BagDrive`. Raises ValueError if the part cannot be read or an option is out of range.
    """

    unusable, damage, lidar_frame = {}, None, "lidar"

    def __init__(
        self, part: RecordedPart | SimulatedPart, *, limit: int | None = None, truth: bool = True,
        cameras: Sequence[str] | None = None, tolerance: float = TOLERANCE_S,
    ):
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit} sweeps, expected at least 1")
        if not 0 <= tolerance < float("inf"):
            raise ValueError(f"tolerance is {tolerance} seconds, expected 0 or more")
        if unknown := sorted(set(cameras or ()) - set(part.cameras)):
            raise ValueError(f"{part.name} has no camera {unknown[0]!r}, only {', '.join(part.cameras) or 'none'}")
        self._part, self._limit, self._tolerance_ns = part, limit, round(tolerance * SECOND)
        self.cameras = part.cameras if cameras is None else tuple(cameras)
        self.truth = part.truth if truth else None

    def __len__(self) -> int:
        return len(self._part) if self._limit is None else min(self._limit, len(self._part))

    def __iter__(self) -> Iterator[Frame]:
        for frame in islice(self._part.frames(tolerance_ns=self._tolerance_ns), self._limit):
            views = tuple(view for view in frame.views if view.name in self.cameras)
            yield replace(frame, views=views, labels=None if self.truth is None else frame.labels)


def open_parts(texts: Sequence[str], class_set: ClassSet | None) -> tuple[dict[str, object], dict[str, str]]:
    """Open sources: name -> part, and name of a source -> why it cannot be opened. The only source must open. Without
    a class set, labels are not read.

    Raises ValueError if there is no source, or one drive is given twice.
    """
    if not texts:
        raise ValueError("no bag or other source given, expected at least one")
    parts, failed = [], {}
    for text in texts:
        try:
            parts += open_source(text, class_set, purpose=PURPOSE)
        except ValueError as error:
            if len(texts) == 1:
                raise
            failed[Path(text).name] = str(error)
    return dict(zip(unique_names([(part.name, part.place) for part in parts]), parts, strict=True)), failed


def open_drive(part: BagPart | RecordedPart | SimulatedPart, class_set: ClassSet, **options) -> BagDrive | PartDrive:
    """The drive of a part. options: those of the two; ValueError for a bag's if the part is none."""
    options = BAG_OPTIONS | options
    if isinstance(part, BagPart):
        if options["truth"] and options["truth_topic"] is None:
            options["labels"] = options["labels"] or part.labels
        options["rig"] = options["rig"] or part.rig
        return BagDrive(part.path, class_set=class_set, offsets=options.pop("offset"), **options)
    given = [name for name, default in BAG_OPTIONS.items() if options.pop(name) != default]
    if given:
        option = given[0].replace("_", "-")
        raise ValueError(f"--{option} is for bags, and {part.name} is none: leave it out, or use `tttkd convert`")
    return PartDrive(part, **options)
