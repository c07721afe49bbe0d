"""Bags of one file each as one bag of several files, as rosbag2 splits a long recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from tttkd_ros.files import write_whole

INFORMATION = "rosbag2_bagfile_information"


def join_bags(parts: Sequence[Path], out: Path) -> None:
    """Move the files of `parts`, bags that follow one another in time, to the folder `out`, and describe them there.

    Nothing is read or copied. It can be called again after an interruption: metadata.yaml, without which `out` is no
    bag, is written last, and those of the parts stay.
    """
    described = [yaml.safe_load((part / "metadata.yaml").read_text())[INFORMATION] for part in parts]
    out.mkdir(exist_ok=True)
    for part, information in zip(parts, described, strict=True):
        for name in information["relative_file_paths"]:
            if (part / name).exists():
                (part / name).rename(out / name)
    write_whole(out / "metadata.yaml", yaml.safe_dump({INFORMATION: _joined(described)}).encode())


def _joined(described: list[dict]) -> dict:
    begins = [each["starting_time"]["nanoseconds_since_epoch"] for each in described]
    ends = [begin + each["duration"]["nanoseconds"] for begin, each in zip(begins, described, strict=True)]
    topics: dict[str, dict] = {}
    for entry in (entry for each in described for entry in each["topics_with_message_count"]):
        known = topics.setdefault(entry["topic_metadata"]["name"], entry | {"message_count": 0})
        known["message_count"] += entry["message_count"]
    return described[0] | {
        "relative_file_paths": [name for each in described for name in each["relative_file_paths"]],
        "files": [file for each in described for file in each["files"]],
        "starting_time": {"nanoseconds_since_epoch": min(begins)},
        "duration": {"nanoseconds": max(ends) - min(begins)},
        "message_count": sum(each["message_count"] for each in described),
        "topics_with_message_count": list(topics.values()),
    }
