"""Write a recording as a bag, in parts, so that an interrupted conversion continues where it was."""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import yaml

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.datasets.recording import Recording, log
from tttkd_ros.digests import code_version, differences
from tttkd_ros.files import write_whole

SWEEPS_PER_FILE = 200  # an interruption costs at most these


def write_bag(
    recording: Recording, out: Path, source: dict[str, object], *, on_sweeps: Callable[[int], object] | None = None
) -> None:
    """Write all of a recording as a bag. Raises ValueError if `out` exists.

    Finished parts lie in a hidden folder beside `out`. The next call after an interruption continues behind them, if
    `source`, the recording's `inputs` and the code are the same. Otherwise it starts over and logs why.

    source: plain values that identify the recording. on_sweeps: called with the number of further sweeps written.
    """
    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} exists: choose another name, or remove it")
    classes = recording.class_set or OUTDOOR  # without labels no class set is written
    source = source | {"class set": classes.name, "classes": json.dumps(classes.content)}
    work = _prepare_folder(out, source | {"sweeps": len(recording), **recording.inputs, "code": code_version()})
    on_sweeps, parts = on_sweeps or (lambda count: None), []
    for number, first in enumerate(range(0, len(recording), SWEEPS_PER_FILE)):
        parts.append(work / f"{out.name}_{number}")
        sweeps = range(first, min(first + SWEEPS_PER_FILE, len(recording)))
        if parts[-1].exists():
            on_sweeps(len(sweeps))
            continue
        with BagWriter(parts[-1], class_set=classes) as bag:
            for index in sweeps:
                sweep = recording[index]
                for stamp, pose in sweep.poses:
                    bag.write_pose(pose, stamp)
                bag.write_frame(sweep.frame, encoded=sweep.images)
                on_sweeps(1)
    _join(parts, work / out.name)
    (work / out.name).rename(out)
    shutil.rmtree(work)


def _prepare_folder(out: Path, source: dict[str, object]) -> Path:
    """The folder of finished parts. Parts of another source are removed."""
    work = out.parent / f".{out.name}.conversion"
    record, content = work / "source.json", json.dumps(source, sort_keys=True).encode()
    if not record.is_file() or record.read_bytes() != content:
        if any(work.glob(f"{glob.escape(out.name)}_*")):
            changes = ""
            with suppress(OSError, ValueError, RecursionError):
                changes = "; ".join(differences(json.loads(record.read_text()), source))
            log.warning("the conversion to %s starts over, because its finished parts have another source: %s", out,
                        changes or "source.json does not say which")
        shutil.rmtree(work, ignore_errors=True)
        write_whole(record, content)
    for unfinished in work.glob(".*.partial"):  # left by a writer that was killed
        shutil.rmtree(unfinished)
    return work


def _join(parts: list[Path], out: Path) -> None:
    """Move the parts' files to the folder `out`, and describe them in one metadata.yaml, which is written last.

    An interruption does no harm, as the parts keep their own metadata.yaml.
    """
    key = "rosbag2_bagfile_information"
    try:
        infos = [yaml.safe_load((part / "metadata.yaml").read_text())[key] for part in parts]
        begins = [info["starting_time"]["nanoseconds_since_epoch"] for info in infos]
        ends = [begin + info["duration"]["nanoseconds"] for begin, info in zip(begins, infos, strict=True)]
        topics: dict[str, dict] = {}
        for info in infos:
            for entry in info["topics_with_message_count"]:
                topic = topics.setdefault(entry["topic_metadata"]["name"], entry | {"message_count": 0})
                topic["message_count"] += entry["message_count"]
        joined = infos[0] | {
            "relative_file_paths": [name for info in infos for name in info["relative_file_paths"]],
            "files": [file for info in infos for file in info["files"]],
            "starting_time": {"nanoseconds_since_epoch": min(begins)},
            "duration": {"nanoseconds": max(ends) - min(begins)},
            "message_count": sum(info["message_count"] for info in infos),
            "topics_with_message_count": list(topics.values()),
        }
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"a metadata.yaml in {out.parent} is damaged ({error!r}): remove that folder, and convert "
                         "again") from error
    out.mkdir(exist_ok=True)
    for part, info in zip(parts, infos, strict=True):
        for name in info["relative_file_paths"]:
            if (part / name).exists():
                (part / name).rename(out / name)
    write_whole(out / "metadata.yaml", yaml.safe_dump({key: joined}).encode())
