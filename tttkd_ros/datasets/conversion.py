"""A recording as a bag, in parts, so that a conversion that was interrupted goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tttkd_ros.bags.joining import join_bags
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.datasets.recording import Recording
from tttkd_ros.files import write_whole

PART = 200  # sweeps in each of the bag's files: what an interruption costs at most


def write_bag(
    recording: Recording, out: Path, source: dict[str, object], *, on_sweeps: Callable[[int], object] | None = None
) -> None:
    """Write all of a recording as the bag `out`. Raises ValueError where `out` exists.

    What is finished lies in a hidden folder beside `out` until all is: after an interruption, a kill included, or
    once a file at fault has been replaced, the next call with the same `source` (plain values) goes on behind the last
    whole part, and one with another starts over. on_sweeps is told how many more sweeps are written.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists: choose another name, or remove it")
    work = _workplace(out, source | {"sweeps": len(recording)})
    parts = []
    for number, first in enumerate(range(0, len(recording), PART)):
        parts.append(work / f"{out.name}_{number}")
        sweeps = range(first, min(first + PART, len(recording)))
        if not parts[-1].exists():
            with BagWriter(parts[-1]) as bag:
                for index in sweeps:
                    recorded = recording[index]
                    for stamp, pose in recorded.poses:
                        bag.write_pose(pose, stamp)
                    bag.write_frame(recorded.frame, encoded=recorded.images)
                    if on_sweeps is not None:
                        on_sweeps(1)
        elif on_sweeps is not None:
            on_sweeps(len(sweeps))
    join_bags(parts, work / out.name)
    (work / out.name).rename(out)
    shutil.rmtree(work)


def _workplace(out: Path, source: dict[str, object]) -> Path:
    """The folder of what is finished of this very conversion; anything else there is removed."""
    work = out.parent / f".{out.name}.conversion"
    told, wanted = work / "source.json", json.dumps(source, sort_keys=True).encode()
    if not told.is_file() or told.read_bytes() != wanted:
        shutil.rmtree(work, ignore_errors=True)
        write_whole(told, wanted)
    for unfinished in work.glob(".*.partial"):  # of a writer that was killed
        shutil.rmtree(unfinished)
    return work
