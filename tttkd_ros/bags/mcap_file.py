"""The messages of an .mcap file, by its index or, if that lacks anything, by a scan of the records themselves."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Schema
from mcap.summary import Summary

from tttkd_ros.bags.compression import unpack_chunk
from tttkd_ros.bags.connections import Connection, in_time_order, ros2_type
from tttkd_ros.bags.file_kinds import MCAP

HEAD = struct.Struct("<BQ")  # of a record: opcode, length of the content
MESSAGE = struct.Struct("<HIQQ")  # of a message: channel, sequence number, recording time, publishing time
CHUNK = struct.Struct("<QQQII")  # of a chunk: first and last time, unpacked size, checksum, length of the next name
RUN = 2**22  # bytes: messages outside chunks are read in runs of about that length


@dataclass
class _Block:
    """A chunk or a run of records outside chunks. channels: whose messages it holds; None if that is unknown."""

    place: int
    length: int  # in the file
    is_chunk: bool
    start: int  # ns, the first message's recording time
    channels: Collection[int] | None


class McapFile:
    """`connections`, `messages` and `start` as in `connections.Source`; `close` closes the file.

    Raises ValueError, or what the parsers of a damaged file raise, if it is not whole.
    """

    def __init__(self, path: Path):
        self._file = path.open("rb")
        try:
            self._size = path.stat().st_size
            self._channels: dict[int, Connection] = {}
            self._blocks: list[_Block] = []
            summary = read_summary(self._file, self._size)
            if summary is not None and _is_complete(summary):
                self._take(summary)
            else:
                self._scan()
        except BaseException:
            self._file.close()
            raise
        self.connections = list(self._channels.values())
        self.start = min((block.start for block in self._blocks), default=0)

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """Connection, recording time in nanoseconds and content of each message, in the order of these times."""
        wanted = {key: channel for key, channel in self._channels.items() if channel in connections}

        def read(block: _Block) -> Callable[[], list]:
            return lambda: sorted(self._read(block, wanted), key=lambda message: message[1])

        return in_time_order(
            (block.start, read(block))
            for block in self._blocks
            if block.channels is None or not wanted.keys().isdisjoint(block.channels)
        )

    def close(self) -> None:
        self._file.close()

    def _read(self, block: _Block, wanted: dict[int, Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        self._file.seek(block.place)
        content = memoryview(self._file.read(block.length))
        if block.is_chunk:
            if not content or content[0] != Opcode.CHUNK:
                raise ValueError(f"the index tells of a chunk at byte {block.place}, where none is")
            content = open_chunk(content[HEAD.size :])
        for opcode, record in _records(content):
            if opcode == Opcode.MESSAGE:
                key, _, time, _ = MESSAGE.unpack_from(record)
                if key in wanted:
                    yield wanted[key], time, bytes(record[MESSAGE.size :])

    def _take(self, summary: Summary) -> None:
        counts = summary.statistics.channel_message_counts
        for channel in summary.channels.values():
            self._channels[channel.id] = _connection(channel, summary.schemas)
            self._channels[channel.id].msgcount = counts.get(channel.id, 0)
        for chunk in summary.chunk_indexes:
            end = chunk.chunk_start_offset + chunk.chunk_length
            if end > self._size:
                raise ValueError(f"the index tells of a chunk that ends at byte {end} of {self._size}")
            # A writer may leave message indexes out: then any channel's messages may be in the chunk.
            channels = chunk.message_index_offsets or None
            self._blocks.append(
                _Block(chunk.chunk_start_offset, chunk.chunk_length, True, chunk.message_start_time, channels)
            )

    def _scan(self) -> None:
        """Find the blocks, and count their messages. Attachments and the contents of messages are skipped."""
        schemas: dict[int, Schema] = {}
        channels: dict[int, Channel] = {}
        counts: Counter[int] = Counter()

        def note(opcode: int, content: memoryview, block: _Block) -> None:
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(ReadDataStream(BytesIO(content)))
                schemas[schema.id] = schema
            elif opcode == Opcode.CHANNEL:
                channel = Channel.read(ReadDataStream(BytesIO(content)))
                channels[channel.id] = channel
            elif opcode == Opcode.MESSAGE:
                key, _, time, _ = MESSAGE.unpack_from(content)
                block.start = min(block.start, time) if block.channels else time
                block.channels.add(key)
                counts[key] += 1

        run = _Block(0, 0, False, 0, set())
        for opcode, place, length in self._heads():
            end = self._file.tell() + length
            block = _Block(place, end - place, opcode == Opcode.CHUNK, 0, set())
            if opcode == Opcode.CHUNK:
                for inner, content in _records(open_chunk(memoryview(self._file.read(length)))):
                    note(inner, content, block)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                note(opcode, memoryview(self._file.read(length)), block)
            elif opcode == Opcode.MESSAGE:
                if end - run.place > RUN or run.place + run.length != place:
                    run = block
                    self._blocks.append(run)
                run.length = end - run.place
                note(opcode, memoryview(self._file.read(min(length, MESSAGE.size))), run)
            if block.is_chunk and block.channels:
                self._blocks.append(block)
        self._channels = {key: _connection(channel, schemas) for key, channel in channels.items()}
        unknown = sorted(counts.keys() - channels.keys())
        if unknown:
            raise ValueError(f"messages are of channels {unknown}, which the file does not describe")
        for key, count in counts.items():
            self._channels[key].msgcount = count

    def _heads(self) -> Iterator[tuple[int, int, int]]:
        """Opcode, place and length of each record up to the mark that all data are written; the file stands at its
        content."""
        place = len(MCAP)
        while place + HEAD.size <= self._size:
            self._file.seek(place)
            opcode, length = HEAD.unpack(self._file.read(HEAD.size))
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                return
            if not opcode or place + HEAD.size + length > self._size:
                raise ValueError(f"no whole record at byte {place} of {self._size}")
            yield opcode, place, length
            place += HEAD.size + length
        raise ValueError(f"it ends at byte {self._size} without the mark that all data are written")


def read_summary(file: BinaryIO, size: int) -> Summary | None:
    """The index at the end of an .mcap file; None if it has none that can be read."""
    # mcap's parser raises whatever the bytes of a damaged file make its unpacking raise.
    with suppress(Exception):
        return SeekingReader(file, record_size_limit=size).get_summary()
    return None


def _is_complete(summary: Summary) -> bool:
    """Whether it tells of all messages and their topics, as the specification allows but does not ask for."""
    statistics = summary.statistics
    return (
        statistics is not None
        and sum(statistics.channel_message_counts.values()) == statistics.message_count
        and len(summary.chunk_indexes) == statistics.chunk_count
        and (summary.chunk_indexes or not statistics.message_count)
        and all(  # else all chunks would be opened at once
            chunk.message_start_time >= statistics.message_start_time
            for chunk in summary.chunk_indexes
            if chunk.message_index_offsets
        )
        and len(summary.channels) == statistics.channel_count
        and all(key in summary.channels for key in statistics.channel_message_counts)
        and all(not channel.schema_id or channel.schema_id in summary.schemas for channel in summary.channels.values())
    )


def _connection(channel: Channel, schemas: dict[int, Schema]) -> Connection:
    schema = schemas.get(channel.schema_id)
    return Connection(channel.topic, ros2_type(schema.name) if schema else "", encoding=channel.message_encoding)


def open_chunk(content: memoryview) -> memoryview:
    """The records in a chunk. Raises ValueError if they are not what it says, also by its checksum if it has one."""
    *_, size, checksum, length = CHUNK.unpack_from(content)
    start = CHUNK.size + length
    compression = str(content[CHUNK.size : start], "utf-8")
    (packed,) = struct.unpack_from("<Q", content, start)
    records = unpack_chunk(content[start + 8 : start + 8 + packed], compression, size)
    if checksum and crc32(records) != checksum:
        raise ValueError("a chunk's content does not match its checksum")
    return memoryview(records)


def _records(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    place = 0
    while place < len(content):
        opcode, length = HEAD.unpack_from(content, place)
        place += HEAD.size
        if length > len(content) - place:
            raise ValueError(f"a record claims {length} bytes, but {len(content) - place} are left of its chunk")
        yield opcode, content[place : place + length]
        place += length
