"""MCAP files as writers other than rosbag2 make them: the index may lack anything."""

import struct
from zlib import crc32

import pytest
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType, Writer

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag

SWEEPS = 6
INDEXES = IndexType.ATTACHMENT | IndexType.METADATA


@pytest.fixture
def source(frame, write_frames):
    return write_frames([frame(index, points=500) for index in range(SWEEPS)])


@pytest.fixture
def rewrite(source, tmp_path):
    """`rewrite(**options)`: the same messages in a file of mcap's writer, in chunks of 16 kB.

    order: of the records, in place of that of time. type_name: made of the message type. beside: called with the
    writer halfway.
    """

    def write(*, order=list, type_name=str, schema="ros2msg", encoding="cdr", profile="ros2", beside=None, **options):
        path = tmp_path / "rewritten.mcap"
        writer = Writer(str(path), chunk_size=2**14, **options)
        writer.start(profile=profile)
        with open_bag(source) as bag:
            channels = {}
            for topic, kind in bag.types.items():
                schema_id = writer.register_schema(type_name(kind), schema, b"") if schema is not None else 0
                channels[topic] = writer.register_channel(topic, encoding, schema_id)
            records = order(bag.messages(bag.types))
            for number, record in enumerate(records):
                if beside is not None and number == len(records) // 2:
                    beside(writer)
                writer.add_message(channels[record.topic], record.time, record.data, record.time)
        writer.finish()
        return path

    return write


def messages(path):
    with open_bag(path) as bag:
        found = list(bag.messages(bag.types))
        assert {topic: sum(record.topic == topic for record in found) for topic in bag.types} == bag.counts
        return found


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize(
    "options",
    [{}, {"repeat_channels": False}, {"repeat_schemas": False}, {"use_statistics": False},
     {"repeat_channels": False, "repeat_schemas": False}, {"use_summary_offsets": False},
     {"index_types": INDEXES}, {"index_types": INDEXES | IndexType.CHUNK}, {"index_types": INDEXES | IndexType.MESSAGE},
     {"index_types": IndexType.NONE, "use_statistics": False, "repeat_channels": False, "repeat_schemas": False},
     {"use_chunking": False}, {"use_chunking": False, "use_statistics": False, "repeat_channels": False}],
    ids=lambda options: ", ".join(options) or "whole",
)  # fmt: skip
def test_what_the_index_lacks_is_found_in_the_data(source, rewrite, options, compression):
    assert messages(rewrite(compression=compression, **options)) == messages(source)


@pytest.mark.parametrize("profile", ["", "ros2", "px4"])
def test_the_profile_does_not_matter(source, rewrite, profile):
    assert messages(rewrite(profile=profile)) == messages(source)


@pytest.mark.parametrize("zeroed", [8, 37, 45])
def test_a_zeroed_end_costs_no_message(source, rewrite, zeroed):
    path = rewrite()
    content = path.read_bytes()
    path.write_bytes(content[:-zeroed] + bytes(zeroed))
    assert messages(path) == messages(source)


@pytest.mark.parametrize("start", [0, 12, 10**15])
def test_a_footer_that_leads_nowhere_costs_no_message(source, rewrite, start):
    path = rewrite()
    content = path.read_bytes()  # its end: summary's start, offsets' start, checksum, magic
    path.write_bytes(content[:-28] + struct.pack("<Q", start) + content[-20:])
    assert messages(path) == messages(source)


@pytest.fixture
def cut(rewrite):
    """`cut(share, **options)`: what `rewrite` gives, cut to that share of its bytes."""

    def write(share, **options):
        path = rewrite(**options)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        return path

    return write


@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("options", [{}, {"compression": CompressionType.NONE}, {"use_chunking": False}])
def test_a_file_that_was_cut_short_is_read_up_to_the_cut_with_a_warning(source, cut, share, options, caplog):
    path = cut(share, **options)
    found, whole = messages(path), messages(source)
    assert (share - 0.3) * len(whole) < len(found) < len(whole) and found == whole[: len(found)]
    reader = BagReader(path)
    stamps = [frame.stamp for frame in reader.frames()]
    assert len(stamps) == len(reader) and stamps == [frame.stamp for frame in BagReader(source).frames()][: len(reader)]
    assert f"`mcap recover {path} -o recovered.mcap`" in reader.damage and reader.damage in caplog.text
    assert BagReader(source).damage is None


@pytest.mark.parametrize("share", [0.0005, 0.01])
def test_a_file_with_no_message_left_is_refused_with_the_remedy(cut, share):
    path = cut(share)
    with pytest.raises(ValueError, match=f"cut short.*: `mcap recover {path} -o recovered.mcap`"), open_bag(path):
        pass


@pytest.mark.parametrize("indexed", [True, False])
def test_a_hole_in_a_file_is_refused_with_the_remedy(rewrite, indexed):
    path = rewrite() if indexed else rewrite(index_types=IndexType.NONE, use_statistics=False)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 2**13 : middle + 2**13] = bytes(2**14)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"is damaged .*`mcap recover {path} -o recovered.mcap`"):
        messages(path)


@pytest.mark.parametrize("last", [True, False])
def test_of_several_files_the_last_may_be_cut_short(source, cut, tmp_path, last):
    whole, part = (source / "bag.mcap").read_bytes(), cut(0.7).read_bytes()
    folder = tmp_path / "split"
    folder.mkdir()
    for number, content in enumerate((whole, part) if last else (part, whole)):
        (folder / f"split_{number}.mcap").write_bytes(content)
    if last:
        assert len(messages(folder)) > len(messages(source))
    else:
        with pytest.raises(ValueError, match="split_0.mcap is cut short .*only the last file"):
            messages(folder)


@pytest.mark.parametrize("options", [{}, {"use_chunking": False}, {"index_types": INDEXES}])
def test_messages_come_in_the_order_of_their_times(source, rewrite, options):
    path = rewrite(order=lambda records: list(records)[::-1], **options)
    times = [record.time for record in messages(path)]
    assert times == sorted(times) and len(times) == len(messages(source))


@pytest.mark.parametrize(
    "beside",
    [lambda writer: writer.add_attachment(0, 0, "calibration.pdf", "application/pdf", bytes(10**5)),
     lambda writer: writer.add_metadata("vehicle", {"name": "a car"}),
     lambda writer: writer.register_schema("never/msg/Used", "ros2msg", b"")],
    ids=["attachment", "metadata", "schema"],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"use_statistics": False}, {"use_chunking": False}])
def test_records_that_are_no_messages_are_skipped(source, rewrite, beside, options):
    assert messages(rewrite(beside=beside, **options)) == messages(source)


@pytest.mark.parametrize(
    ("schema", "type_name"),
    [("ros2msg", lambda kind: kind.replace("/msg/", "/")), ("ros2idl", str),
     ("omgidl", lambda kind: kind.replace("/", "::")), ("", str)],
    ids=["without msg", "IDL", "OMG IDL", "no definition"],
)  # fmt: skip
def test_type_names_and_definitions_of_every_kind(source, rewrite, schema, type_name):
    path = rewrite(schema=schema, type_name=type_name)
    assert messages(path) == messages(source)
    assert len(list(BagReader(path).frames())) == SWEEPS


@pytest.mark.parametrize("profile", ["ros1", "ros2", ""])
def test_messages_of_ros_1_are_named_with_the_converter(rewrite, profile):
    path = rewrite(encoding="ros1", schema="ros1msg", profile=profile)
    with pytest.raises(ValueError, match="ROS 1 messages: .*`rosbags-convert --src in.bag --dst out`"):
        BagReader(path)


@pytest.mark.parametrize("encoding", ["protobuf", "json", ""])
def test_other_encodings_are_named(rewrite, encoding):
    with pytest.raises(ValueError, match=f"no ROS 2 messages .*encoded as {encoding or 'nothing'}, expected cdr"):
        BagReader(rewrite(encoding=encoding))


def test_topics_without_a_type_are_named(rewrite):
    with pytest.raises(ValueError, match="does not name its message type"):
        BagReader(rewrite(schema=None))


@pytest.mark.parametrize(("encoding", "with_type"), [("json", True), ("protobuf", True), ("cdr", False)])
def test_other_topics_beside_are_left_out_and_named(source, rewrite, caplog, encoding, with_type):
    def add(writer):
        schema = writer.register_schema("a.B", "jsonschema", b"{}") if with_type else 0
        writer.add_message(writer.register_channel("/beside", encoding, schema), 0, b"{}", 0)

    path = rewrite(beside=add)
    assert messages(path) == messages(source)
    BagReader(path)
    assert "/beside is left out: " in caplog.text


def chunk(content: bytes, *, size=None, compression=b"", crc=0):
    """A record of a chunk with this packed content, said to unpack to `size` bytes."""
    body = struct.pack("<QQQI", 0, 0, len(content) if size is None else size, crc)
    body += struct.pack("<I", len(compression)) + compression + struct.pack("<Q", len(content)) + content
    return struct.pack("<BQ", Opcode.CHUNK, len(body)) + body


def file_of(path, *records):
    header = struct.pack("<BQ", Opcode.HEADER, 8) + bytes(8)
    end = struct.pack("<BQI", Opcode.DATA_END, 4, 0) + struct.pack("<BQQQI", Opcode.FOOTER, 20, 0, 0, 0)
    path.write_bytes(b"\x89MCAP0\r\n" + header + b"".join(records) + end + b"\x89MCAP0\r\n")
    return path


def test_a_chunk_that_does_not_match_its_checksum_is_refused(tmp_path):
    path = file_of(tmp_path / "bag.mcap", chunk(b"", crc=0))
    with open_bag(path) as bag:
        assert not bag.types
    padding = struct.pack("<BQ", 0x80, 1) + b"a"
    file_of(path, chunk(padding, crc=crc32(padding) ^ 1))
    with pytest.raises(ValueError, match="damaged .*crc validation failed"), open_bag(path):
        pass


def test_a_message_of_a_channel_that_is_not_described_is_refused(tmp_path):
    message = struct.pack("<BQHIQQ", Opcode.MESSAGE, 22, 7, 0, 0, 0)
    with pytest.raises(ValueError, match=r"of channels \[7\], which the file does not describe"), open_bag(
        file_of(tmp_path / "bag.mcap", message)
    ):
        pass


def test_only_the_chunks_with_a_topic_are_unpacked(rewrite, monkeypatch):
    """/tf_static is at the start alone: reading it must not unpack the whole of a large file."""
    from tttkd_ros.bags import mcap_file

    path = rewrite()
    opened, unpack_chunk = [], mcap_file.unpack_chunk
    monkeypatch.setattr(mcap_file, "unpack_chunk", lambda *chunk: (opened.append(1), unpack_chunk(*chunk))[1])
    with path.open("rb") as file:
        chunks = len(make_reader(file).get_summary().chunk_indexes)
    with open_bag(path) as bag:
        assert len(list(bag.messages(["/tf_static"]))) == 1
    assert len(opened) == 1 < chunks
