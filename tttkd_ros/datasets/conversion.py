"""A recording as a bag, in parts, so that a conversion that was interrupted goes on where it was."""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tttkd_ros.bags.joining import join_bags
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.datasets.recording import Recording, log
from tttkd_ros.digests import code, differences
from tttkd_ros.files import write_whole

CODE = ("bags", "datasets", "geometry", "messages", "classes.py", "frame.py")  # what decides a bag's content
PART = 200  # sweeps in each of the bag's files: what an interruption costs at most


def write_bag(
    recording: Recording, out: Path, source: dict[str, object], *, on_sweeps: Callable[[int], object] | None = None
) -> None:
    """Write all of a recording as the bag `out`. Raises ValueError where `out` exists.

    What is finished lies in a hidden folder beside `out` until all is: after an interruption, a kill included, or
    once a file at fault has been replaced, the next call with the same `source` (plain values), for a recording of the
    same `inputs` and by the same code, goes on behind the last whole part. Any other starts over and says why.
    on_sweeps is told how many more sweeps are written.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists: choose another name, or remove it")
    work = _workplace(out, source | {"sweeps": len(recording), **recording.inputs, "code": code(CODE)})
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
        if any(work.glob(f"{glob.escape(out.name)}_*")):
            log.warning("%s is begun anew, for what was finished of it is of another source: %s", out,
                        "; ".join(_changes(told, source)) or "of which, it does not tell")
        shutil.rmtree(work, ignore_errors=True)
        write_whole(told, wanted)
    for unfinished in work.glob(".*.partial"):  # of a writer that was killed
        shutil.rmtree(unfinished)
    return work


def _changes(told: Path, source: dict[str, object]) -> list[str]:
    try:
        return differences(json.loads(told.read_text()), source)
    except (OSError, ValueError, RecursionError):
        return []
