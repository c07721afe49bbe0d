"""Digests of the files that a result depends on, and the version of the code that computed it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import tttkd_ros
from tttkd_ros.paths import shipped_path

EDGE = 1 << 20  # bytes read at each end of a large file; the index of an .mcap file, which counts everything, is there


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files below a folder and their names."""
    found = hashlib.sha256()
    for name, file in _files(path):
        found.update(f"{name} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while part := content.read(EDGE):
                found.update(part)
    return found.hexdigest()


def edge_digests(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of the size and both ends of a file, or of each file below a folder."""
    found = {}
    for name, file in _files(path):
        size = file.stat().st_size
        with file.open("rb") as content:
            first = content.read(EDGE)
            content.seek(max(size - EDGE, 0))
            found[name] = hashlib.sha256(str(size).encode() + first + content.read(EDGE)).hexdigest()
    return found


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of this package, and in a git checkout that git can read the last commit that changed its code.

    The time of the first call stands for uncommitted changes, so that no other process takes its code for this one's.
    """
    version = ElementTree.parse(shipped_path("package.xml")).getroot().findtext("version")
    folder = Path(tttkd_ros.__file__).parent
    commit = _git(folder, "log", "-1", "--format=%h", "--abbrev=12", "--", ".")
    if not commit:
        return version
    changes = f" with uncommitted changes of {datetime.now()}" if _git(folder, "status", "--porcelain", ".") else ""
    return f"{version}, commit {commit}{changes}"


def differences(before: Mapping, now: Mapping) -> list[str]:
    """Entries of two nested mappings that are in both and differ, as "name: old value then, new value now"."""
    old, new = dict(_pairs(before)), dict(_pairs(now))
    return [f"{name}: {_short(value)} then, {_short(new[name])} now" for name, value in old.items()
            if name in new and value != new[name]]


def flat(values: Mapping) -> dict[str, str]:
    """The entries of a nested mapping as text, by their names joined with dots."""
    return {name: str(value) for name, value in _pairs(values)}


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    return [(file.relative_to(path).as_posix(), file) for file in sorted(path.rglob("*")) if file.is_file()]


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command, "" if it fails."""
    try:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _pairs(values: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _pairs(value, f"{name}.{key}" if name else key)
    else:
        yield name, values


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:16]}..."
