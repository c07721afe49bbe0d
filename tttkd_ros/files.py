"""Files that are there whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import glob
import os
import secrets
from pathlib import Path
from tempfile import TemporaryFile


def require_writable(path: str | Path) -> None:
    """Raise ValueError, saying what to do, where `write_whole` could put no file at `path`; nothing is left there."""
    path = Path(os.path.realpath(path))
    try:
        if path.is_dir():
            raise ValueError(f"{path} is a folder: name a file")
        with TemporaryFile(dir=next(folder for folder in path.parents if folder.exists())):
            pass
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}): name another file") from error


def write_whole(path: str | Path, content: bytes) -> None:
    """Put a file in place of what is at `path`; parents are made. A symbolic link stays, its target is replaced.

    Whatever happens until this returns (an error, a kill, a power cut), `path` holds all of its old content or all of
    the new one, and once it has returned, the new one. Raises OSError, leaving the old file and nothing else. What a
    killed writer left beside it is removed; of two writers at once, one may be refused for that.
    """
    path = Path(os.path.realpath(path))  # the unfinished file must be on the file system of the finished one
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.unfinished"):
        left.unlink(missing_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
        put_in_place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def put_in_place(finished: Path, path: Path) -> None:
    """Give a file another name, in the same folder, under which it is whole even after a power cut."""
    _sync(finished)  # else the new name may come to have none of the content
    finished.replace(path)
    _sync(path.parent)  # the new name itself


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
