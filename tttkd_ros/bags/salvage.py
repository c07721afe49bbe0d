"""What can be read of a bag that is not whole: a file cut short, a recorder that was killed."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import yaml
from rosbags.rosbag2 import Reader
from rosbags.rosbag2.storage_mcap import decompress

from tttkd_ros.bags.storage import Bag, open_bag

MAGIC = b"\x89MCAP0\r\n"
HEADER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x01, 0x03, 0x04, 0x05, 0x06, 0x0F  # opcodes of mcap.dev/spec
PROFILE = b"\4\0\0\0ros2"  # as headers start: with its length
SUFFIXES = (".mcap", ".db3")


@contextmanager
def open_readable(path: Path | str) -> Iterator[Bag]:
    """As `open_bag`, but of a bag that is not whole, what is: then `damage` tells what is wrong and how much is left.

    Raises ValueError where nothing can be read.
    """
    path = Path(path)
    with ExitStack() as stack:
        try:
            bag = stack.enter_context(open_bag(path))
        except ValueError as error:
            if not path.exists():
                raise
            parts, told = _parts(path, stack)
            left = sum(connection.msgcount for part in parts for connection in part.connections)
            if not left:
                raise
            recorded = _recorded(path)
            told.append(f"{left} messages are left" + (f" of {recorded}" if recorded else ""))
            bag = Bag(path, _Parts(parts), f"{error}; {', '.join(told)}")
        yield bag


class SalvagedMcap:
    """The whole records of an .mcap file that may end anywhere, in the file's order, with no use of its index.

    As rosbags' reader: `connections` (topic, msgtype, msgcount) and `messages`. readable: the share of the file's bytes
    up to the first record that is not whole, 0 to 1.
    """

    def __init__(self, path: Path):
        self.path = path
        self._channels: dict[int, SimpleNamespace] = {}
        self._end = 0
        counts = Counter(channel for channel, _, _ in self._messages())
        for key, channel in self._channels.items():
            channel.msgcount = counts[key]
        self.connections = list(self._channels.values())
        self.readable = self._end / max(path.stat().st_size, 1)

    def messages(self, connections: Collection) -> Iterator[tuple[SimpleNamespace, int, bytes]]:
        wanted = {key: channel for key, channel in self._channels.items() if channel in connections}
        for key, time, content in self._messages():
            if key in wanted:
                yield wanted[key], time, bytes(content[22:])

    def _messages(self) -> Iterator[tuple[int, int, memoryview]]:
        """Channel, time and the record's content of every message; channels are noted as they come."""
        schemas: dict[int, str] = {}
        for opcode, content in self._records():
            if opcode == MESSAGE and len(content) >= 22:
                key, _, time = struct.unpack_from("<HIQ", content)
                if key in self._channels:
                    yield key, time, content
            elif opcode in (SCHEMA, CHANNEL):
                # One that is not what it says leaves a topic out.
                with suppress(struct.error, UnicodeDecodeError):
                    self._note(opcode, content, schemas)

    def _note(self, opcode: int, content: memoryview, schemas: dict[int, str]) -> None:
        key, schema = struct.unpack_from("<HH", content)
        if opcode == SCHEMA:
            schemas[key] = _text(content, 2)
        elif key not in self._channels and schema in schemas:
            self._channels[key] = SimpleNamespace(topic=_text(content, 4), msgtype=schemas[schema], msgcount=0)

    def _records(self) -> Iterator[tuple[int, memoryview]]:
        """Opcode and content of each whole record, chunks opened."""
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return
            for opcode, content in _whole_records(file, self.path.stat().st_size):
                if opcode == DATA_END:
                    self._end = self.path.stat().st_size  # only the index follows
                    return
                if opcode == HEADER and content[: len(PROFILE)] != PROFILE:
                    return
                if opcode == CHUNK:
                    # Decompressors let out errors of their own; a chunk that they refuse ends what is readable.
                    try:
                        records = _opened(content)
                    except Exception:
                        return
                    yield from _whole_records(BytesIO(records), len(records))
                else:
                    yield opcode, content
                self._end = file.tell()


class _Parts:
    """Several readers as one."""

    def __init__(self, parts: list):
        self._parts = parts
        self.connections = [connection for part in parts for connection in part.connections]

    def messages(self, connections: Collection) -> Iterator[tuple]:
        for part in self._parts:
            own = [connection for connection in part.connections if connection in connections]
            if own:
                yield from part.messages(own)


def _parts(path: Path, stack: ExitStack) -> tuple[list, list[str]]:
    """A reader for each file that can be read, at least in part, and what there is to say of each."""
    files = [path] if path.is_file() else sorted(path.iterdir(), key=_natural)
    parts, told = [], []
    for file in files:
        if file.suffix not in SUFFIXES:
            continue
        reader = Reader(file)
        # rosbags' parsers let out whatever a damaged file makes their unpacking and indexing raise.
        try:
            reader.open()
        except Exception:
            if file.suffix != ".mcap":
                told.append(f"{file.name} cannot be read")
                continue
            reader = SalvagedMcap(file)
            told.append(f"{file.name} can be read up to {100 * reader.readable:.1f} % of its bytes")
        else:
            stack.callback(reader.close)
            told.append(f"{file.name} can be read")
        parts.append(reader)
    return parts, told


def _recorded(path: Path) -> int | None:
    """The number of messages that metadata.yaml tells of, where there is one that tells."""
    with suppress(OSError, yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError):
        return yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["message_count"]
    return None


def _whole_records(file: BinaryIO, size: int) -> Iterator[tuple[int, memoryview]]:
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack("<BQ", head)
        if length > size - file.tell():
            return
        yield opcode, memoryview(file.read(length))


def _opened(chunk: memoryview) -> bytes:
    """The records in a chunk; its checksum is looked at where it has one."""
    _, _, size, checksum = struct.unpack_from("<QQQI", chunk)
    compression = _text(chunk, 28)
    start = 32 + len(compression)
    (length,) = struct.unpack_from("<Q", chunk, start)
    return decompress(bytes(chunk[start + 8 : start + 8 + length]), compression, size, checksum)


def _text(content: memoryview, start: int) -> str:
    (length,) = struct.unpack_from("<I", content, start)
    return bytes(content[start + 4 : start + 4 + length]).decode()


def _natural(path: Path) -> list:
    """rosbag2 numbers the files of a bag without leading zeros."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]
