"""Databases as recorders leave them: written in part, of old schemas, with a log beside them."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag

SWEEPS = 4


@pytest.fixture
def source(frame, write_frames):
    return write_frames([frame(index) for index in range(SWEEPS)], storage="sqlite3")


def messages(path):
    with open_bag(path) as bag:
        return list(bag.messages(bag.types))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def killed(source, tmp_path):
    """`killed(in_log, name="bag.db3")`: a folder whose recorder was killed with that many messages in the log alone."""

    def make(in_log: int, name: str = "bag.db3"):
        folder = tmp_path / "killed"
        folder.mkdir()
        writing = tmp_path / "writing.db3"
        shutil.copy(source / "bag.db3", writing)
        with closing(sqlite3.connect(writing)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA wal_autocheckpoint = 0")
            rows = database.execute("SELECT * FROM messages ORDER BY id DESC LIMIT ?", (in_log,)).fetchall()
            database.execute("DELETE FROM messages WHERE id > (SELECT max(id) FROM messages) - ?", (in_log,))
            database.commit()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows[::-1])
            database.commit()
            for suffix in ("", "-wal", "-shm"):  # before it is closed, which would empty the log
                shutil.copy(f"{writing}{suffix}", folder / f"{name}{suffix}")
        return folder

    return make


@pytest.mark.parametrize("in_log", [1, 5, 18])
def test_messages_in_the_log_of_a_killed_recorder_are_read(source, killed, in_log):
    folder = killed(in_log)
    before = contents(folder)
    with closing(sqlite3.connect(f"file:{folder / 'bag.db3'}?immutable=1", uri=True)) as database:
        assert database.execute("SELECT count(*) FROM messages").fetchone() == (18 - in_log,)
    assert messages(folder) == messages(source)
    assert len(list(BagReader(folder).frames())) == SWEEPS
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["with space.db3", "50%?.db3", "a#b.db3"])
def test_names_with_uri_characters_are_read(source, killed, name):
    assert messages(killed(3, name) / name) == messages(source)


def test_the_log_is_read_without_its_index_and_through_a_link(source, killed, tmp_path):
    folder = killed(3)
    (folder / "bag.db3-shm").unlink()
    (tmp_path / "link.db3").symlink_to(folder / "bag.db3")
    before = contents(folder)
    assert messages(tmp_path / "link.db3") == messages(source)
    assert contents(folder) == before


def test_an_empty_log_does_no_harm(source):
    (source / "bag.db3-wal").touch()
    assert len(messages(source)) == 18


def test_a_log_cut_short_gives_what_was_committed(source, killed):
    folder = killed(5)
    log = folder / "bag.db3-wal"
    log.write_bytes(log.read_bytes()[:-1000])
    assert messages(folder) == messages(source)[:13]


def test_a_write_that_was_not_finished_is_named_with_the_remedy(source):
    journal = source / "bag.db3-journal"
    for harmless in (b"", bytes(512)):
        journal.write_bytes(harmless)
        assert len(messages(source)) == 18
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    with pytest.raises(ValueError, match="in the midst of a write, with bag.db3-journal: .*sqlite3 bag.db3 'PRAGMA"):
        messages(source)


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE topics DROP COLUMN offered_qos_profiles", "UPDATE topics SET offered_qos_profiles = '[{a: }'",
     "UPDATE topics SET type = replace(type, '/msg/', '/')", "DROP TABLE message_definitions", "DROP TABLE metadata",
     "DROP TABLE schema", "DROP INDEX timestamp_idx", "ALTER TABLE topics DROP COLUMN type_description_hash",
     "UPDATE message_definitions SET encoding = 'unknown'"],
)  # fmt: skip
def test_tables_beside_the_messages_are_not_needed(source, change):
    whole = messages(source)
    with closing(sqlite3.connect(source / "bag.db3")) as database, database:
        database.execute(change)
    assert messages(source) == whole
    assert len(list(BagReader(source).frames())) == SWEEPS


def test_messages_come_in_the_order_of_their_times(source):
    with closing(sqlite3.connect(source / "bag.db3")) as database, database:
        database.execute("UPDATE messages SET id = 1000 - id")
    times = [record.time for record in messages(source)]
    assert times == sorted(times) and len(times) == 18


@pytest.mark.parametrize("size", [1000, 20_000, 40_000])
def test_a_database_cut_short_is_refused_with_the_remedy(frame, write_frames, size):
    file = write_frames([frame(index, points=500) for index in range(8)], storage="sqlite3") / "bag.db3"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"cut short.*: `sqlite3 {file} .recover [|] sqlite3 recovered.db3`"):
        messages(file)


def test_damaged_pages_are_refused_with_the_remedy(frame, write_frames):
    file = write_frames([frame(index, points=2500) for index in range(8)], storage="sqlite3") / "bag.db3"
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 2**15] = bytes(2**15)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"is damaged .*: `sqlite3 {file} .recover [|] sqlite3 recovered.db3`"):
        messages(file)


def test_a_database_that_is_no_bag_is_refused(tmp_path):
    with closing(sqlite3.connect(tmp_path / "bag.db3")) as database, database:
        database.execute("CREATE TABLE notes (text TEXT)")
    with pytest.raises(ValueError, match="of an unknown kind .*no such table: topics"):
        messages(tmp_path / "bag.db3")


@pytest.mark.parametrize("encoding", ["protobuf", "json", "cbor"])
def test_other_encodings_are_named(source, encoding):
    with closing(sqlite3.connect(source / "bag.db3")) as database, database:
        database.execute("UPDATE topics SET serialization_format = ?", (encoding,))
    with pytest.raises(ValueError, match=f"encoded as {encoding}, expected cdr"):
        messages(source)
