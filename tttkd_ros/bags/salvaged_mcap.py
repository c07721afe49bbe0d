"""What can be read of an .mcap file that is cut short or has holes."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from tttkd_ros.bags.connections import Connection
from tttkd_ros.bags.mcap_file import open_chunk, read_summary

MAGIC = b"\x89MCAP0\r\n"
HEADER, SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 0x01, 0x03, 0x04, 0x05, 0x06, 0x0F  # opcodes of mcap.dev/spec
PROFILE = b"\4\0\0\0ros2"  # as headers start: with its length


class SalvagedMcap:
    """The whole records of the file, in its order. The index, if it is left, tells where to go on behind a hole.

    As rosbags' reader: `connections` (topic, msgtype, msgcount), `messages` and `close`. lost: how much cannot be read;
    empty if all can. torn: whether there are messages behind what cannot.
    """

    def __init__(self, path: Path):
        self.path = path
        self._channels: dict[int, Connection] = {}
        self._chunks: list[int] = []  # where they start
        self._whole, self._hole = 0, False  # bytes up to where reading is; whether there were others
        self._take_index()
        counts: Counter[int] = Counter()
        self.torn = False
        for key, _, _ in self._messages():
            counts[key] += 1
            self.torn |= self._hole
        for key, channel in self._channels.items():
            channel.msgcount = counts[key]
        self.connections = list(self._channels.values())
        size = max(path.stat().st_size, 1)
        self.lost = f"{100 * (size - self._whole) / size:.1f} % of its bytes" if self._whole < size else ""

    def messages(self, connections: Collection) -> Iterator[tuple[Connection, int, bytes]]:
        wanted = {key: channel for key, channel in self._channels.items() if channel in connections}
        for key, time, content in self._messages():
            if key in wanted:
                yield wanted[key], time, bytes(content[22:])

    def close(self) -> None:
        """Nothing is open between readings."""

    def _take_index(self) -> None:
        with self.path.open("rb") as file:
            summary = read_summary(file, self.path.stat().st_size)
        if summary is None:
            return
        for key, channel in summary.channels.items():
            if channel.schema_id in summary.schemas:
                self._channels[key] = Connection(channel.topic, summary.schemas[channel.schema_id].name)
        self._chunks = [chunk.chunk_start_offset for chunk in summary.chunk_indexes]

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
            self._channels[key] = Connection(_text(content, 4), schemas[schema])

    def _records(self) -> Iterator[tuple[int, memoryview]]:
        """Opcode and content of each whole record, chunks opened."""
        with self.path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return
            size, start = self.path.stat().st_size, file.tell()
            self._whole, self._hole = start, False
            while start is not None:
                file.seek(start)
                for opcode, content in _whole_records(file, size):
                    if opcode == DATA_END:
                        self._whole += size - start  # only the index follows
                        return
                    if opcode == HEADER and content[: len(PROFILE)] != PROFILE:
                        return
                    records = _opened(content) if opcode == CHUNK else [(opcode, content)]
                    if records is None:
                        self._hole = True
                    else:
                        yield from records
                        self._whole += file.tell() - start
                    start = file.tell()
                self._hole = True
                start = min((place for place in self._chunks if start < place < size), default=None)


def _whole_records(file: BinaryIO, size: int) -> Iterator[tuple[int, memoryview]]:
    while len(head := file.read(9)) == 9:
        opcode, length = struct.unpack("<BQ", head)
        if not opcode or length > size - file.tell():  # no record is of kind 0, which a hole would be full of
            return
        yield opcode, memoryview(file.read(length))


def _opened(chunk: memoryview) -> list[tuple[int, memoryview]] | None:
    """The records in a chunk; None where they are not what it says, by its checksum, too, where it has one."""
    # Parsers and decompressors raise errors of their own.
    try:
        content = open_chunk(chunk)
    except Exception:
        return None
    records = list(_whole_records(BytesIO(content), len(content)))
    return records if sum(9 + len(record) for _, record in records) == len(content) else None


def _text(content: memoryview, start: int) -> str:
    (length,) = struct.unpack_from("<I", content, start)
    return bytes(content[start + 4 : start + 4 + length]).decode()
