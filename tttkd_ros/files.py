"""Writing files that are complete or absent, even if the write is interrupted."""

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
    """A file cannot be written. The message has its path, the reason and what to do."""


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn an OSError into `Unwritable`, because the system's error for a full disk does not name the file."""
    try:
        yield
    except Unwritable:
        raise
    except OSError as error:
        remedy = REMEDIES.get(error.errno, "name another file")
        raise Unwritable(f"{path} cannot be written ({error.strerror or error}): {remedy}") from error


def require_writable(path: str | Path) -> None:
    """Raise ValueError if `write_whole` could not write a file at `path`. Leaves nothing there."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    try:
        with naming(path), TemporaryFile(dir=next(folder for folder in path.parents if folder.exists())):
            pass
    except Unwritable as error:
        raise ValueError(str(error)) from error


def write_whole(path: str | Path, content: bytes) -> None:
    """Replace a file atomically and durably. Missing parent folders are made, leftovers of killed writers removed.

    Whatever happens before this returns (an error, a kill, a power cut), the file has either all of its old content or
    all of the new. If several processes write at once, the last one wins. A symbolic link stays, and its target is
    replaced. Raises Unwritable if the write failed; the old file is then unchanged.
    """
    path = Path(os.path.realpath(path))  # the temporary file must be on the file system of the final one
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.unfinished"):
            _remove_abandoned(left)
        unfinished, file = _open_unfinished(path)
        try:
            with file:
                file.write(content)
                file.flush()
                put_in_place(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def put_in_place(finished: Path, path: Path) -> None:
    """Rename a finished file within its folder such that it is whole under the new name even after a power cut."""
    _sync(finished)  # without this, the new name could exist before the content does
    finished.replace(path)
    _sync(path.parent)  # the new name itself


def _open_unfinished(path: Path) -> tuple[Path, BinaryIO]:
    """Create a file beside `path`. Its lock shows other processes that it is not abandoned."""
    while True:
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
        file = unfinished.open("xb")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return unfinished, file
        file.close()  # another process removed it as abandoned before it was locked


def _remove_abandoned(unfinished: Path) -> None:
    """Remove a file unless a living process writes it. A lock ends with its process."""
    with suppress(OSError), unfinished.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unfinished.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
