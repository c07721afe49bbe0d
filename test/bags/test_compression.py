"""Compressed bags, also those that claim or become more than they should."""

import shutil
import struct
from zlib import crc32

import pytest
from backports import zstd
from lz4 import frame as lz4
from mcap.opcode import Opcode
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from tttkd_ros.bags import compression
from tttkd_ros.bags.compression import unpack_chunk, unpack_message
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.messages.definitions import standard_types

PACK = {"zstd": zstd.compress, "lz4": lz4.compress, "": bytes}


@pytest.fixture
def source(frame, write_frames):
    return write_frames([frame(index) for index in range(4)])


@pytest.fixture
def packed(source, tmp_path):
    """`packed(mode, storage)`: the same messages, compressed as rosbag2 does."""

    def write(mode, storage):
        writer = Writer(tmp_path / "packed", version=8, storage_plugin=storage)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with open_bag(source) as bag, writer:
            topics = {topic: writer.add_connection(topic, kind, typestore=standard_types())
                      for topic, kind in bag.types.items()}
            for record in bag.messages(bag.types):
                writer.write(topics[record.topic], record.time, record.data)
        return tmp_path / "packed"

    return write


def messages(path):
    with open_bag(path) as bag:
        return list(bag.messages(bag.types))


MODES = [(CompressionMode.FILE, StoragePlugin.MCAP), (CompressionMode.FILE, StoragePlugin.SQLITE3),
         (CompressionMode.MESSAGE, StoragePlugin.MCAP), (CompressionMode.MESSAGE, StoragePlugin.SQLITE3),
         (CompressionMode.STORAGE, StoragePlugin.MCAP)]  # fmt: skip


@pytest.mark.parametrize(("mode", "storage"), MODES)
@pytest.mark.parametrize("metadata", ["as written", "none", "says nothing of it", "says file", "says message"])
def test_compression_is_detected_in_the_data(source, packed, mode, storage, metadata):
    bag = packed(mode, storage)
    file = bag / "metadata.yaml"
    if metadata == "none":
        file.unlink()
    elif metadata != "as written":
        text = file.read_text().replace("compression_mode: message", "compression_mode: X")
        new = {"says file": "file", "says message": "message"}.get(metadata, "''")
        file.write_text(text.replace("compression_mode: X", f"compression_mode: {new}")
                        .replace("compression_mode: file", f"compression_mode: {new}"))
    assert messages(bag) == messages(source)


@pytest.mark.parametrize(("mode", "storage"), MODES)
def test_a_compressed_file_is_read_by_itself(source, packed, mode, storage):
    (file,) = (path for path in packed(mode, storage).iterdir() if path.name != "metadata.yaml")
    assert messages(file) == messages(source)
    assert len(list(BagReader(file).frames())) == 4


def test_metadata_may_name_a_file_as_it_was_before_or_after_compression(source, packed):
    bag = packed(CompressionMode.FILE, StoragePlugin.MCAP)
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("packed.mcap.zstd", "packed.mcap"))
    assert messages(bag) == messages(source)
    metadata.write_text(metadata.read_text().replace("packed.mcap", "packed.mcap.zstd"))
    file = bag / "packed.mcap.zstd"
    (bag / "packed.mcap").write_bytes(zstd.decompress(file.read_bytes()))
    file.unlink()
    assert messages(bag) == messages(source)


def test_a_file_beside_its_compressed_copy_is_read_once(source):
    file = source / "bag.mcap"
    (source / "bag.mcap.zst").write_bytes(zstd.compress(file.read_bytes()))
    (source / "metadata.yaml").unlink()
    assert len(messages(source)) == 18


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_compressed_file_cut_short_is_refused_with_the_remedy(packed, share):
    (file,) = packed(CompressionMode.FILE, StoragePlugin.MCAP).glob("*.zstd")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(ValueError, match=f"cut short.*copy it again, or unpack it with `zstd -d {file}`"):
        BagReader(file)


def test_a_file_compressed_twice_is_refused(source, tmp_path):
    content = (source / "bag.mcap").read_bytes()
    (tmp_path / "bag.mcap.zst").write_bytes(zstd.compress(zstd.compress(content)))
    with pytest.raises(ValueError, match="compressed twice"):
        messages(tmp_path / "bag.mcap.zst")


@pytest.mark.parametrize("kind", ["zstd", "lz4", ""])
@pytest.mark.parametrize("size", [0, 1, 100_000, 3 * 2**20])
def test_a_chunk_is_unpacked(kind, size):
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert unpack_chunk(PACK[kind](content), kind, size) == content


@pytest.mark.parametrize("kind", ["zstd", "lz4", ""])
@pytest.mark.parametrize(("size", "claimed"), [(10, 11), (10**6, 10), (10, 10**6)])
def test_a_chunk_with_a_wrong_size_is_refused(kind, size, claimed):
    with pytest.raises(ValueError, match=f"{claimed} bytes"):
        unpack_chunk(PACK[kind](bytes(size)), kind, claimed)


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_a_chunk_is_not_unpacked_beyond_its_claimed_size(kind, monkeypatch):
    pieces = []
    monkeypatch.setattr(compression, "PIECE", 1000)
    packed = PACK[kind](bytes(10**7))

    class Counting(compression.READERS[kind]):
        def read(self, size=-1):
            piece = super().read(size)
            pieces.append(len(piece))
            return piece

    monkeypatch.setitem(compression.READERS, kind, Counting)
    with pytest.raises(ValueError, match="beyond the 5000 bytes"):
        unpack_chunk(packed, kind, 5000)
    assert sum(pieces) <= 6000


@pytest.mark.parametrize("kind", ["zstd", "lz4", ""])
def test_a_chunk_that_claims_too_much_is_refused(kind):
    with pytest.raises(ValueError, match="claims 1073741825 bytes, more than the limit of 1073741824"):
        unpack_chunk(PACK[kind](b"a"), kind, 2**30 + 1)


@pytest.mark.parametrize("kind", ["gzip", "ZSTD", "brotli"])
def test_an_unknown_compression_is_named(kind):
    with pytest.raises(ValueError, match=f"compression is '{kind}', expected zstd, lz4 or none"):
        unpack_chunk(b"a", kind, 1)


@pytest.mark.parametrize("size", [1001, 10**5, 10**7])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_message_that_becomes_too_large_is_refused(size, streamed, monkeypatch):
    """streamed: its frame does not tell the size."""
    monkeypatch.setattr(compression, "LIMIT", 1000)
    packer = zstd.ZstdCompressor()
    content = packer.compress(bytes(size)) + packer.flush() if streamed else zstd.compress(bytes(size))
    with pytest.raises(ValueError, match="beyond the 1000 bytes"):
        unpack_message(content)


@pytest.mark.parametrize("ratio", [2, 20, 100])
def test_a_file_that_becomes_too_large_is_refused(packed, tmp_path, monkeypatch, ratio):
    monkeypatch.setattr(compression, "LIMIT", 1000)
    monkeypatch.setattr(compression, "MAX_RATIO", ratio)
    file = tmp_path / "bag.mcap.zstd"
    file.write_bytes(zstd.compress(b"\x89MCAP0\r\n" + bytes(10**6)))
    with pytest.raises(ValueError, match=f"expands to more than .* bytes, {ratio} times its size: .*`zstd -d {file}`"):
        messages(file)


def test_a_file_that_does_not_fit_on_the_disk_is_named(packed, monkeypatch):
    bag = packed(CompressionMode.FILE, StoragePlugin.MCAP)
    usage = shutil.disk_usage(bag)._replace(free=1000)
    monkeypatch.setattr(compression.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="does not fit into the 1000 bytes .* free in .*: set TMPDIR"):
        messages(bag)


@pytest.mark.parametrize(("claimed", "has"), [(2**31, 10), (100, 10**7), (10**7, 100)])
@pytest.mark.parametrize("kind", ["zstd", "lz4"])
def test_a_bag_with_a_chunk_of_wrong_size_is_refused(tmp_path, kind, claimed, has):
    content = PACK[kind](bytes(has))
    name = kind.encode()
    body = struct.pack("<QQQI", 0, 0, claimed, crc32(b""))
    body += struct.pack("<I", len(name)) + name + struct.pack("<Q", len(content)) + content
    chunk = struct.pack("<BQ", Opcode.CHUNK, len(body)) + body
    header = struct.pack("<BQ", Opcode.HEADER, 12) + struct.pack("<I", 4) + b"ros2" + bytes(4)
    path = tmp_path / "bag.mcap"
    path.write_bytes(b"\x89MCAP0\r\n" + header + chunk + struct.pack("<BQI", Opcode.DATA_END, 4, 0))
    with pytest.raises(ValueError, match="damaged .*bytes"):
        BagReader(path)
