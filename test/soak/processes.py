"""Memory, threads and files of processes, from /proc."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """The resources of the node at one time."""

    at: float  # monotonic seconds
    node_mib: float  # resident, without the adaptation process
    child_mib: float | None  # of the adaptation process; None unless it is ready
    threads: int
    files: int  # open


def sample(node: int, adapts: bool) -> Sample:
    resident = [_resident(child) for child in children(node)] if adapts else []
    process = Path(f"/proc/{node}")
    return Sample(
        time.monotonic(), _resident(node), sum(resident) if any(resident) else None,
        len(os.listdir(process / "task")), len(os.listdir(process / "fd")),
    )  # fmt: skip


def children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = path.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found.append(int(path.parent.name))
    return found


def _resident(process: int) -> float:
    """Return resident MiB without pages of files, which the kernel drops and reads again at any time."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # ended meanwhile
        return 0.0
    return sum(map(int, re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE))) / 1024
