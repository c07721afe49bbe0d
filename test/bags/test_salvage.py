"""Bags that are not whole: what is left of them is read, and said."""

import logging
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapReader

from tttkd_ros.bags import salvage
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.messages.definitions import standard_types

SWEEPS = 40
HOLE = 2**16  # bytes


@pytest.fixture
def bag(frame, write_frames):
    """Of several chunks, with a sweep of 40 kB each."""
    return write_frames([frame(index, points=2500) for index in range(SWEEPS)])


@pytest.fixture
def cut(bag):
    """`cut(share)`: the bag, its file cut to that share of its bytes."""

    def make(share: float):
        file = bag / "bag.mcap"
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        return bag

    return make


def stamps(frames):
    return [frame.stamp for frame in frames]


@pytest.mark.parametrize("share", [0.4, 0.7, 0.999])
def test_the_sweeps_before_the_cut_are_read_as_they_were(frame, cut, share, caplog):
    with caplog.at_level(logging.WARNING):
        reader = BagReader(cut(share), whole=False)
    frames = list(reader.frames())
    assert len(frames) == len(reader) and 0 < len(frames) <= SWEEPS
    assert len(frames) > (share - 0.3) * SWEEPS
    assert stamps(frames) == [frame(index).stamp for index in range(len(frames))]
    for index, read in enumerate(frames[:-1]):  # what belongs to the last may be behind the cut
        written = frame(index, points=2500)
        np.testing.assert_array_equal(read.points, written.points)
        np.testing.assert_array_equal(read.labels, written.labels)
        np.testing.assert_array_equal(read.views[0].image, written.views[0].image)
    assert f"only the {len(frames)} sweeps" in caplog.text
    left, recorded = re.search(r"bag.mcap can be read but for .* % of its bytes, (\d+) messages are left of (\d+)",
                               caplog.text).groups()
    assert 0 < int(left) <= int(recorded) == 4 * SWEEPS + 1
    assert reader.damage in caplog.text and not reader.torn


def test_reading_what_is_left_twice_gives_the_same(cut):
    reader = BagReader(cut(0.6), whole=False)
    assert stamps(reader.frames()) == stamps(reader.frames())


def test_a_recorder_that_was_killed_left_a_file_without_an_index_and_no_metadata(cut):
    path = cut(0.6)
    (path / "metadata.yaml").unlink()
    reader = BagReader(path, whole=False)
    assert 0 < len(list(reader.frames())) < SWEEPS
    assert "without the mark that all data are written" in reader.damage or "no whole record" in reader.damage
    assert f"`mcap recover {path / 'bag.mcap'} -o recovered.mcap`" in reader.damage


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_without_metadata_whole_files_are_read_whole(frame, write_frames, storage):
    path = write_frames([frame(index) for index in range(4)], storage=storage)
    (path / "metadata.yaml").unlink()
    for whole in (False, True):
        reader = BagReader(path, whole=whole)
        assert len(list(reader.frames())) == 4 and reader.damage is None


def test_files_of_a_split_bag_are_read_in_the_order_of_their_numbers(frame, write_frames, tmp_path):
    (tmp_path / "split").mkdir()
    for number, index in ((10, 2), (9, 1), (2, 0)):
        part = write_frames([frame(index)], name=f"part_{number}")
        shutil.copy(part / f"part_{number}.mcap", tmp_path / "split" / f"split_{number}.mcap")
    assert stamps(BagReader(tmp_path / "split", whole=False).frames()) == [frame(index).stamp for index in range(3)]


NO_DATE = b"rosbag2_bagfile_information: {message_count: 2001-99-99}"


@pytest.mark.parametrize("garbage", [b"", b"\x00: [garbage", NO_DATE], ids=["empty", "garbage", "no date"])
def test_metadata_that_say_nothing_are_done_without(bag, garbage):
    (bag / "metadata.yaml").write_bytes(garbage)
    assert len(list(BagReader(bag, whole=False).frames())) == SWEEPS


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01])
def test_a_file_with_nothing_left_is_refused(cut, share):
    with pytest.raises(ValueError, match="damaged or cut short"):
        BagReader(cut(share), whole=False)


def test_a_folder_with_no_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no .mcap and no .db3 file"):
        BagReader(tmp_path, whole=False)


def test_a_path_without_a_bag_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no bag at"):
        BagReader(tmp_path / "none", whole=False)


def test_a_whole_bag_has_no_damage(bag):
    assert BagReader(bag, whole=False).damage is BagReader(bag).damage is None


def test_a_database_cut_short_is_refused(frame, write_frames):
    path = write_frames([frame(index, points=2500) for index in range(4)], storage="sqlite3")
    file = path / "bag.db3"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged or cut short"):
        BagReader(path, whole=False)


@pytest.fixture
def compressed(bag, tmp_path):
    """`compressed(mode)`: the file of the same bag in zstd."""

    def make(mode: CompressionMode):
        writer = Writer(tmp_path / "small", version=8, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with open_bag(bag) as source, writer:
            connections = {topic: writer.add_connection(topic, kind, typestore=standard_types())
                           for topic, kind in source.types.items()}
            for record in source.messages(source.types):
                writer.write(connections[record.topic], record.time, record.data)
        return tmp_path / "small" / "small.mcap"

    return make


def chunks(file):
    """Where they start and end."""
    reader = McapReader(file)
    reader.open()
    found = [(chunk.chunk_start_offset, chunk.chunk_start_offset + chunk.chunk_length) for chunk in reader.chunks]
    reader.close()
    return found


def tear(file, middle):
    """64 KiB of zeros about that byte."""
    with file.open("r+b") as content:
        content.seek(middle - HOLE // 2)
        content.write(bytes(HOLE))


def check_what_is_left(frame, path, lost):
    """Behind a hole, too, sweeps are as they were, and there are as many as is said; `lost` of them are not."""
    reader = BagReader(path, whole=False)
    frames = list(reader.frames())
    assert len(frames) == len(reader) and SWEEPS - len(frames) in lost
    written = {each.stamp: each for each in (frame(index, points=2500) for index in range(SWEEPS))}
    assert frames[-1].stamp == max(written) and set(stamps(frames)) < set(written)
    for read in frames:
        np.testing.assert_array_equal(read.points, written[read.stamp].points)
        for view in read.views:
            np.testing.assert_array_equal(view.image, written[read.stamp].views[0].image)
        assert read.labels is None or np.array_equal(read.labels, written[read.stamp].labels)
    assert sum(len(read.views) == 1 and read.labels is not None for read in frames) >= len(frames) - 4
    with pytest.raises(ValueError, match="damaged"):
        list(BagReader(path).frames())
    return reader


@pytest.mark.parametrize("mode", [CompressionMode.STORAGE, CompressionMode.NONE])
def test_a_hole_in_a_chunk_costs_that_chunk(frame, compressed, mode):
    file = compressed(mode)
    start, end = chunks(file)[1]
    tear(file, (start + end) // 2)
    reader = check_what_is_left(frame, file.parent, range(1, SWEEPS // 2))
    assert reader.torn and "damaged" in reader.damage and "small.mcap can be read but for" in reader.damage


def test_a_hole_without_an_index_behind_it_costs_that_chunk(frame, compressed):
    file = compressed(CompressionMode.STORAGE)
    start, end = chunks(file)[1]
    tear(file, (start + end) // 2)
    file.write_bytes(file.read_bytes()[:-8])
    check_what_is_left(frame, file.parent, range(1, SWEEPS // 2))


def test_a_hole_over_the_bounds_of_chunks_costs_these(frame, compressed):
    file = compressed(CompressionMode.STORAGE)
    tear(file, chunks(file)[1][1])
    check_what_is_left(frame, file.parent, range(1, 3 * SWEEPS // 4))


def test_a_hole_where_the_topics_are_declared_costs_that_chunk(frame, compressed):
    """/tf_static and with it the cameras' places are there, too."""
    file = compressed(CompressionMode.STORAGE)
    start, end = chunks(file)[0]
    tear(file, (start + end) // 2)
    reader = BagReader(file.parent, whole=False)
    frames = list(reader.frames())
    assert SWEEPS // 2 < len(frames) == len(reader) < SWEEPS
    assert all(read.labels is not None for read in frames[1:])


def test_damaged_pages_of_a_database_cost_the_messages_that_were_there(frame, write_frames):
    path = write_frames([frame(index, points=2500) for index in range(SWEEPS)], "database", storage="sqlite3")
    file = path / "database.db3"
    tear(file, file.stat().st_size // 2 // 4096 * 4096)
    reader = check_what_is_left(frame, path, range(1, 4))
    assert reader.torn and "database.db3 can be read but for some of its messages" in reader.damage


def test_a_hole_in_one_file_of_a_split_bag_leaves_the_others(frame, compressed, write_frames):
    file = compressed(CompressionMode.STORAGE)
    later = frame(SWEEPS)
    part = write_frames([later], name="part")
    shutil.copy(part / "part.mcap", file.parent / "small_1.mcap")
    (file.parent / "metadata.yaml").unlink()
    start, end = chunks(file)[1]
    tear(file, (start + end) // 2)
    reader = BagReader(file.parent, whole=False)
    frames = list(reader.frames())
    assert len(frames) == len(reader) > SWEEPS // 2 and frames[-1].stamp == later.stamp
    assert "small_1.mcap can be read," in reader.damage


def test_a_whole_bag_is_read_through_once_however_often_its_frames_are_asked_for(bag, monkeypatch):
    read_through, seen = salvage._read_through, []
    monkeypatch.setattr(salvage, "_read_through", lambda bag: (seen.append(bag), read_through(bag)))
    reader = BagReader(bag, whole=False)
    assert len(list(reader.frames())) == len(list(reader.frames())) == SWEEPS
    assert len(seen) == 1


def test_what_is_left_may_be_compressed_by_message(compressed):
    file = compressed(CompressionMode.MESSAGE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    assert 0 < len(list(BagReader(file.parent, whole=False).frames())) < SWEEPS


def test_compressed_chunks_are_opened(compressed):
    file = compressed(CompressionMode.STORAGE)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert 0 < len(list(BagReader(file.parent, whole=False).frames())) < SWEEPS


def test_an_mcap_file_of_another_robot_system_is_refused(cut):
    path = cut(0.6)
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes().replace(b"ros2", b"ros1", 1))
    with pytest.raises(ValueError, match="damaged or cut short, or of an unknown kind"):
        BagReader(path, whole=False)


def test_an_mcap_file_whose_header_is_too_short_is_refused(cut):
    path = cut(0.6)
    (path / "bag.mcap").write_bytes(b"\x89MCAP0\r\n\x01" + (2).to_bytes(8, "little") + b"ro")
    with pytest.raises(ValueError, match="damaged or cut short, or of an unknown kind"):
        BagReader(path, whole=False)


def test_a_sweep_whose_truth_was_lost_has_no_labels(frame, write_frames):
    frames = [frame(0), replace(frame(1), labels=None)]
    assert [read.labels is None for read in BagReader(write_frames(frames), whole=False).frames()] == [False, True]
