"""The kind of a file, by how it starts: a file of a bag, or something that is often taken for one."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from tttkd_ros.bags.errors import BagError

MCAP = b"\x89MCAP0\r\n"
SQLITE = b"SQLite format 3\0"
ZSTD = b"\x28\xb5\x2f\xfd"  # no serialised message starts so, either

UNPACK = "is an archive: unpack it first, with `{}`, and give the bag in it"
# Start of files that are mistaken for bags -> what to do with them.
OTHERS = {
    b"#ROSBAG V": "is a ROS 1 bag: convert it with `rosbags-convert --src {path} --dst {stem}`, and give {stem}",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`",
    b"PK\x03\x04": UNPACK.format("unzip {path}"),
    b"\x1f\x8b": UNPACK.format("tar xzf {path}` or `gunzip {path}"),
    b"BZh": UNPACK.format("tar xjf {path}` or `bunzip2 {path}"),
    b"\xfd7zXZ\0": UNPACK.format("tar xJf {path}` or `unxz {path}"),
    b"7z\xbc\xaf\x27\x1c": UNPACK.format("7z x {path}"),
    b"<!DOCTYPE": "is a web page, not a bag: the download went wrong",
    b"<html": "is a web page, not a bag: the download went wrong",
}
TAR_MAGIC_OFFSET = 257  # of b"ustar" in a tar archive


def file_kind(path: Path) -> bytes:
    """Find out the kind of a file.

    Returns:
        How files of its kind start: MCAP, SQLITE or ZSTD.

    Raises:
        BagError: It is a known kind that is no bag; the error says what to do.
        ValueError: It is of an unknown kind.
    """
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise BagError(f"bag {path} is damaged or cut short: it is empty. Record or copy it again")
    for kind in (MCAP, SQLITE, ZSTD):
        if start.startswith(kind):
            return kind
    for kind, problem in OTHERS.items():
        if start.startswith(kind):
            problem = problem.format(path=quote(str(path)), stem=quote(str(path.with_suffix(""))))
            raise BagError(f"{path} {problem}")
    if start[TAR_MAGIC_OFFSET:].startswith(b"ustar"):
        raise BagError(f"{path} {UNPACK.format(f'tar xf {quote(str(path))}')}")
    raise ValueError(f"it starts with {start[:8]!r}, expected an MCAP or SQLite file")
