"""Files that are there whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

FREE_SPACE = "free space on that disk, or name a file on another one"
REMEDIES = {errno.ENOSPC: FREE_SPACE, errno.EDQUOT: FREE_SPACE}


class Unwritable(OSError):
    """Why a file cannot be written, with its path and the remedy."""


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn an OSError into `Unwritable`: the system's own for a full disk does not name the file."""
    try:
        yield
    except Unwritable:
        raise
    except OSError as error:
        remedy = REMEDIES.get(error.errno, "name another file")
        raise Unwritable(f"{path} cannot be written ({error.strerror or error}): {remedy}") from error


def require_writable(path: str | Path) -> None:
    """Raise ValueError, saying what to do, where `write_whole` could put no file at `path`; nothing is left there."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    try:
        with naming(path), TemporaryFile(dir=next(folder for folder in path.parents if folder.exists())):
            pass
    except Unwritable as error:
        raise ValueError(str(error)) from error


def write_whole(path: str | Path, content: bytes) -> None:
    """Put a file in place of what is at `path`; parents are made. A symbolic link stays, its target is replaced.

    Whatever happens until this returns (an error, a kill, a power cut), `path` holds all of its old content or all of
    the new one, and once it has returned, the new one. Of several writers at once, the last one's content stays. What
    a killed writer left beside it is removed. Raises Unwritable, leaving the old file and nothing else.
    """
    path = Path(os.path.realpath(path))  # the unfinished file must be on the file system of the finished one
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.unfinished"):
            _remove_abandoned(left)
        unfinished, file = _unfinished(path)
        try:
            with file:
                file.write(content)
                file.flush()
                put_in_place(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def put_in_place(finished: Path, path: Path) -> None:
    """Give a file another name, in the same folder, under which it is whole even after a power cut."""
    _sync(finished)  # else the new name may come to have none of the content
    finished.replace(path)
    _sync(path.parent)  # the new name itself


def _unfinished(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside `path`, locked for as long as it is open: another process sees that it is not abandoned."""
    while True:
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
        file = unfinished.open("xb")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return unfinished, file
        file.close()  # another process took it for abandoned before it was locked


def _remove_abandoned(unfinished: Path) -> None:
    """Remove a file that no living process writes: the lock ends with its process, however that ends."""
    with suppress(OSError), unfinished.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unfinished.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
