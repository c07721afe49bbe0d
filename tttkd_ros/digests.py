"""What a result depends on, files and the project's own code, as digests that can be kept beside it and compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tttkd_ros

EDGE = 1 << 20  # bytes at each end of a file that stand for a large one; an .mcap's index, which counts all, is there


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files below a folder, with their names."""
    found = hashlib.sha256()
    for name, file in _files(path):
        found.update(f"{name} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while part := content.read(EDGE):
                found.update(part)
    return found.hexdigest()


def edges(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of the size and of both ends, of a file or of each file below a folder."""
    found = {}
    for name, file in _files(path):
        size = file.stat().st_size
        with file.open("rb") as content:
            first = content.read(EDGE)
            content.seek(max(size - EDGE, 0))
            found[name] = hashlib.sha256(str(size).encode() + first + content.read(EDGE)).hexdigest()
    return found


def code(names: Sequence[str]) -> str:
    """SHA-256 of the project's modules of these names, folders and files of tttkd_ros."""
    root = Path(tttkd_ros.__file__).parent
    found = hashlib.sha256()
    for name in names:
        for file in sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]:
            found.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()


def differences(then: Mapping, now: Mapping) -> list[str]:
    """What both tell of and tell differently, as "name: this then, that now"."""
    before, after = dict(_flat(then)), dict(_flat(now))
    return [f"{name}: {_short(before[name])} then, {_short(after[name])} now" for name in before
            if name in after and before[name] != after[name]]


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    return [(file.relative_to(path).as_posix(), file) for file in sorted(path.rglob("*")) if file.is_file()]


def _flat(values: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else key)
    else:
        yield name, values


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
