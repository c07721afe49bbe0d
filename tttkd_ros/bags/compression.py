"""Unpacks compressed chunks, messages and files within bounds, as compressed data can claim or become any size."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from backports import zstd  # the standard library's from Python 3.14 on
from lz4.frame import LZ4FrameFile

from tttkd_ros.bags.connections import BagError

ZSTD = b"\x28\xb5\x2f\xfd"  # start of compressed data; no serialised message starts so
LIMIT = 2**30  # bytes of an unpacked chunk or message
MAX_RATIO = 200  # of a file's size to its compressed size, if beyond LIMIT; point clouds stay below 20
PIECE = 2**20  # bytes
READERS = {"zstd": zstd.ZstdFile, "lz4": LZ4FrameFile}


def unpack_chunk(data: bytes | memoryview, compression: str, size: int) -> bytes | memoryview:
    """Unpack an MCAP chunk. Raises ValueError if it has not the size (bytes) that it claims, or that exceeds LIMIT."""
    if size > LIMIT:
        raise ValueError(f"a chunk claims {size} bytes, more than the limit of {LIMIT}")
    if compression and compression not in READERS:
        raise ValueError(f"a chunk's compression is {compression!r}, expected zstd, lz4 or none")
    content = _read(READERS[compression](BytesIO(data)), size) if compression else data
    if len(content) != size:
        raise ValueError(f"a chunk claims {size} bytes, but has {len(content)}")
    return content


def unpack_message(data: bytes) -> bytes:
    """Unpack a message that was compressed on its own. Raises ValueError if it is damaged or larger than LIMIT."""
    return _read(zstd.ZstdFile(BytesIO(data)), LIMIT)


@contextmanager
def unpacked_file(path: Path) -> Iterator[Path]:
    """Unpack a zstd file to a temporary folder. Raises BagError if it becomes too large."""
    limit = max(LIMIT, MAX_RATIO * path.stat().st_size)
    error = BagError(f"{path} expands to more than {limit} bytes, {MAX_RATIO} times its size: if that is right, unpack "
                     f"it yourself with `zstd -d {path}`")
    with TemporaryDirectory(prefix="tttkd_bag_") as folder:
        free = shutil.disk_usage(folder).free
        if free < limit:
            limit, error = free, BagError(f"{path} does not fit into the {free} bytes that are free in {folder}: set "
                                          "TMPDIR to a folder on a larger disk")
        out = Path(folder) / path.stem
        with path.open("rb") as packed, zstd.ZstdFile(packed) as content, out.open("wb") as file:
            file.writelines(_pieces(content, limit, error))
        yield out


def _read(content: BinaryIO, limit: int) -> bytes:
    error = ValueError(f"compressed content expands beyond the {limit} bytes that it claims or may have")
    return b"".join(_pieces(content, limit, error))


def _pieces(content: BinaryIO, limit: int, error: ValueError) -> Iterator[bytes]:
    """Raises the error if the content has more bytes than the limit."""
    size = 0
    while piece := content.read(PIECE):
        size += len(piece)
        if size > limit:
            raise error
        yield piece
