"""Bags of one file each as one bag of several files, as rosbag2 splits a long recording."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import isfile  # pathlib's raises OSError for a name that is too long
from pathlib import Path

import yaml

from tttkd_ros.files import write_whole

INFORMATION = "rosbag2_bagfile_information"


def join_bags(parts: Sequence[Path], out: Path) -> None:
    """Move the files of `parts`, bags that follow one another in time, to the folder `out`, and describe them there.

    Nothing is read or copied. It can be called again after an interruption: metadata.yaml, without which `out` is no
    bag, is written last, and those of the parts stay.
    """
    try:
        described = [yaml.safe_load((part / "metadata.yaml").read_text())[INFORMATION] for part in parts]
        whole = yaml.safe_dump({INFORMATION: _joined(described)}).encode()
    # Neither the parser nor what goes through its outcome says what a damaged file makes it raise.
    except Exception as error:
        raise ValueError(f"a metadata.yaml in {parts[0].parent} is damaged ({error!r}): remove the bags there, and "
                         "write them again") from error
    out.mkdir(exist_ok=True)
    for part, information in zip(parts, described, strict=True):
        for name in information["relative_file_paths"]:
            if isfile(part / name):
                (part / name).rename(out / name)
    write_whole(out / "metadata.yaml", whole)


def _joined(described: list[dict]) -> dict:
    names = [name for each in described for name in each["relative_file_paths"]]
    elsewhere = [name for name in names if Path(name).name != name]
    if elsewhere:  # as no writer of one file makes them
        raise ValueError(f"it names files of other folders: {elsewhere}")
    begins = [each["starting_time"]["nanoseconds_since_epoch"] for each in described]
    ends = [begin + each["duration"]["nanoseconds"] for begin, each in zip(begins, described, strict=True)]
    topics: dict[str, dict] = {}
    for entry in (entry for each in described for entry in each["topics_with_message_count"]):
        known = topics.setdefault(entry["topic_metadata"]["name"], entry | {"message_count": 0})
        known["message_count"] += entry["message_count"]
    return described[0] | {
        "relative_file_paths": names,
        "files": [file for each in described for file in each["files"]],
        "starting_time": {"nanoseconds_since_epoch": min(begins)},
        "duration": {"nanoseconds": max(ends) - min(begins)},
        "message_count": sum(each["message_count"] for each in described),
        "topics_with_message_count": list(topics.values()),
    }
