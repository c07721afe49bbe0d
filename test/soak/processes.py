"""Looking at processes, by /proc."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """Of the node: resident MiB of its own, threads and open files. child_mib: of its adaptation process; None unless
    that is there and ready."""

    at: float
    node_mib: float
    child_mib: float | None
    threads: int
    files: int


def sample(node: int, adapts: bool) -> Sample:
    held = [_resident(child) for child in children(node)] if adapts else []
    process = Path(f"/proc/{node}")
    return Sample(
        time.monotonic(), _resident(node), sum(held) if any(held) else None,
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
    """Without the pages of files, libraries mostly, which the kernel drops and reads again as it likes."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # ended meanwhile
        return 0.0
    return sum(map(int, re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE))) / 1024
