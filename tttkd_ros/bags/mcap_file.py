"""The messages of an .mcap file, by its index or, if the index lacks anything, by a scan of the file."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import breakup_chunk
from mcap.summary import Summary

from tttkd_ros.bags.compression import unpack_chunk
from tttkd_ros.bags.connections import Connection, in_time_order, ros2_type

MCAP = b"\x89MCAP0\r\n"  # start and end of a file
HEAD = struct.Struct("<BQ")  # of a record: opcode, length of its content
RUN_BYTES = 2**22  # messages outside chunks are read in runs of about this length


@dataclass
class _Block:
    """A chunk, or a run of records outside chunks."""

    place: int
    length: int  # in the file
    is_chunk: bool
    start: int = 0  # recording time of its first message, ns
    channels: Collection[int] | None = None  # ids of those with messages in it; None if unknown


class McapFile:
    """An open .mcap file; a `Source`. A file that was cut short, as by a killed recorder, is read up to the cut.

    Raises ValueError if it is damaged, or nothing is left of it. The mcap library also raises other errors for that.
    """

    def __init__(self, path: Path):
        self.damage: str | None = None
        self._file = path.open("rb")
        try:
            self._size = path.stat().st_size
            self._channels: dict[int, Connection] = {}
            self._blocks: list[_Block] = []
            summary = None
            with suppress(Exception):  # the library raises whatever the bytes of a damaged file make it raise
                summary = SeekingReader(self._file, record_size_limit=self._size).get_summary()
            if summary is not None and _is_complete(summary):
                self._use_summary(summary)
            else:
                self._scan()
        except BaseException:
            self.close()
            raise
        self.connections = list(self._channels.values())
        self.start = min((block.start for block in self._blocks), default=0)

    def messages(self, connections: Collection[Connection]) -> Iterator[tuple[Connection, int, bytes]]:
        """See `Source`."""
        wanted = {key: channel for key, channel in self._channels.items() if channel in connections}

        def read(block: _Block) -> list[tuple[Connection, int, bytes]]:
            found = [(wanted[record.channel_id], record.log_time, record.data) for record in self._records(block)
                     if isinstance(record, Message) and record.channel_id in wanted]
            return sorted(found, key=lambda message: message[1])

        return in_time_order((block.start, partial(read, block)) for block in self._blocks
                             if block.channels is None or not wanted.keys().isdisjoint(block.channels))

    def close(self) -> None:
        self._file.close()

    def _records(self, block: _Block) -> list[McapRecord]:
        """The messages, channels and schemas of a block."""
        self._file.seek(block.place)
        content = self._file.read(block.length)
        if not block.is_chunk:
            return breakup_chunk(Chunk("", content, 0, 0, 0, len(content)))
        if not content or content[0] != Opcode.CHUNK:
            raise ValueError(f"the index names a chunk at byte {block.place}, where none is")
        chunk = Chunk.read(ReadDataStream(BytesIO(content[HEAD.size :])))
        # The library unpacks whatever a chunk becomes; `unpack_chunk` refuses more than the chunk claims.
        data = unpack_chunk(chunk.data, chunk.compression, chunk.uncompressed_size)
        return breakup_chunk(replace(chunk, data=data, compression=""), validate_crc=True)

    def _use_summary(self, summary: Summary) -> None:
        self._add_channels(summary.channels, summary.schemas, summary.statistics.channel_message_counts)
        for chunk in summary.chunk_indexes:
            end = chunk.chunk_start_offset + chunk.chunk_length
            if end > self._size:
                raise ValueError(f"the index names a chunk that ends at byte {end} of {self._size}")
            # A writer may leave message indexes out: then any channel's messages may be in the chunk.
            where = chunk.chunk_start_offset, chunk.chunk_length
            self._blocks.append(_Block(*where, True, chunk.message_start_time, chunk.message_index_offsets or None))

    def _add_channels(self, channels: dict[int, Channel], schemas: dict[int, Schema], counts: dict[int, int]) -> None:
        for key, channel in channels.items():
            kind = ros2_type(schemas[channel.schema_id].name) if channel.schema_id in schemas else ""
            self._channels[key] = Connection(channel.topic, kind, counts.get(key, 0), channel.message_encoding)

    def _scan(self) -> None:
        """Find the blocks, and read them for channels and numbers of messages."""
        schemas, channels, counts = {}, {}, Counter()  # by id
        for block in self._find_blocks():
            messages = []
            for record in self._records(block):
                if isinstance(record, Message):
                    messages.append((record.log_time, record.channel_id))
                else:
                    (schemas if isinstance(record, Schema) else channels)[record.id] = record
            if messages:
                counts.update(channel for _, channel in messages)
                block.start, block.channels = min(messages)[0], {channel for _, channel in messages}
                self._blocks.append(block)
        if unknown := sorted(counts.keys() - channels.keys()):
            raise ValueError(f"messages are of channels {unknown}, which the file does not describe")
        if self.damage and not counts:
            raise ValueError(f"{self.damage}, and no message comes before it")
        self._add_channels(channels, schemas, counts)

    def _find_blocks(self) -> list[_Block]:
        """Find the blocks up to the mark that all data are written, or to the place where the file is cut short."""
        # mcap's StreamReader does not notice that the last record is short, and reads attachments into memory.
        blocks: list[_Block] = []
        place = len(MCAP)
        while place + HEAD.size <= self._size:
            self._file.seek(place)
            opcode, length = HEAD.unpack(self._file.read(HEAD.size))
            end = place + HEAD.size + length
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                return blocks
            if not opcode or end > self._size:
                break
            if opcode == Opcode.CHUNK:
                blocks.append(_Block(place, end - place, True))
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
                run = blocks[-1] if blocks else None
                if run is None or run.is_chunk or run.place + run.length != place or end - run.place > RUN_BYTES:
                    blocks.append(run := _Block(place, 0, False))
                run.length = end - run.place
            place = end
        self._file.seek(max(self._size - len(MCAP), 0))
        if self._file.read() == MCAP:
            raise ValueError(f"no whole record is at byte {place} of {self._size}, although the file has an end")
        self.damage = f"no whole record is at byte {place} of {self._size}"
        return blocks


def _is_complete(summary: Summary) -> bool:
    """Tell if the summary covers all messages and topics. The specification allows that, but does not require it."""
    statistics, channels, chunks = summary.statistics, summary.channels, summary.chunk_indexes
    indexed = (chunk for chunk in chunks if chunk.message_index_offsets)
    return (
        statistics is not None
        and sum(statistics.channel_message_counts.values()) == statistics.message_count
        and len(chunks) == statistics.chunk_count
        and (chunks or not statistics.message_count)
        # With wrong times, all chunks would be opened at once.
        and all(chunk.message_start_time >= statistics.message_start_time for chunk in indexed)
        and len(channels) == statistics.channel_count
        and channels.keys() >= statistics.channel_message_counts.keys()
        and all(not channel.schema_id or channel.schema_id in summary.schemas for channel in channels.values())
    )
