"""Whole files: errors, kills and a full disk in the middle of a write."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tttkd_ros.files import Unwritable, require_writable, write_whole

SIZE = 4_000_000
KILLS, MAX_KILLS = 60, 600
ENDLESS = """
import sys
from tttkd_ros.files import write_whole
number = int(sys.argv[2])
print("begun", flush=True)
while True:
    number = (number + 1) % 256
    write_whole(sys.argv[1], bytes([number]) * int(sys.argv[3]))
"""
LIMITED = """
import resource, sys
from tttkd_ros.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write_whole(sys.argv[1], b"new" * 100_000)
"""
HALTING = """
import sys, tttkd_ros.files as files
put_in_place = files.put_in_place
files.put_in_place = lambda *paths: (print("written", flush=True), sys.stdin.readline(), put_in_place(*paths))
files.write_whole(sys.argv[1], b"other")
"""
REPEATED = """
import sys
from tttkd_ros.files import write_whole
for _ in range(100):
    write_whole(sys.argv[1], sys.argv[2].encode() * 1000)
"""


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".*.unfinished"))


def test_a_write_replaces_the_content(tmp_path):
    path = tmp_path / "deep" / "file"
    for content in (b"old and long", b"new"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, name):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail) if name == "fsync" else monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_too_large_for_the_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_whole(path, b"old")
    child = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True)
    assert f"Unwritable: {path} cannot be written (File too large): name another file" in child.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_killed_at_any_moment_leaves_one_whole_content(tmp_path):
    path, draw, in_the_middle = tmp_path / "file", random.Random(0), 0
    write_whole(path, bytes(SIZE))
    for kills in range(1, MAX_KILLS + 1):
        command = [sys.executable, "-c", ENDLESS, str(path), str(path.read_bytes()[0]), str(SIZE)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(draw.uniform(0, 0.02))
            child.kill()
        content = path.read_bytes()
        assert content == content[:1] * SIZE
        assert len(unfinished(tmp_path)) <= 1
        in_the_middle += len(unfinished(tmp_path))
        if kills >= KILLS and in_the_middle > KILLS / 4:  # else the kills have shown little
            return
    pytest.fail(f"{in_the_middle} of {MAX_KILLS} kills were in the middle of a write")


def test_content_and_name_are_synced_to_disk_in_this_order(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(Path, "replace", lambda *paths: (events.append("named"), replace(*paths)))
    write_whole(tmp_path / "file", b"content")
    assert events[0].startswith(f"{tmp_path}/.file.")
    assert events[1:] == ["named", str(tmp_path)]


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    path = tmp_path / "odd [name]"
    (tmp_path / ".odd [name].1234abcd.unfinished").write_bytes(b"half")
    (tmp_path / ".other.1234abcd.unfinished").write_bytes(b"half")
    write_whole(path, b"whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".other.1234abcd.unfinished", path.name]


def test_a_file_that_another_process_writes_is_not_removed(tmp_path):
    path = tmp_path / "file"
    command = [sys.executable, "-c", HALTING, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        (file,) = unfinished(tmp_path)
        write_whole(path, b"content")
        assert unfinished(tmp_path) == [file]
        other.communicate(b"go on\n", timeout=20)
    assert (other.returncode, path.read_bytes(), unfinished(tmp_path)) == (0, b"other", [])


def test_processes_may_write_one_file_at_the_same_time(tmp_path):
    path = tmp_path / "file"
    children = [subprocess.Popen([sys.executable, "-c", REPEATED, path, str(number)]) for number in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert path.read_bytes()[:1] * 1000 == path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "reason", "remedy"),
    [(errno.ENOSPC, "No space left on device", "free space on that disk, or name a file on another one"),
     (errno.EDQUOT, "Disk quota exceeded", "free space on that disk, or name a file on another one"),
     (errno.EROFS, "Read-only file system", "name another file")],
)
def test_the_error_for_a_full_disk_has_path_and_remedy(tmp_path, monkeypatch, number, reason, remedy):
    def full(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unwritable) as refused:
        write_whole(path, b"new")
    assert str(refused.value) == f"{path} cannot be written ({reason}): {remedy}"
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "disk" / "file", tmp_path / "link"
    write_whole(target, b"old")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_checking_a_writable_path_leaves_nothing(tmp_path):
    require_writable(tmp_path / "deep" / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a folder: name a file"):
        require_writable(tmp_path)
    with pytest.raises(ValueError, match="deep cannot be written .*: name another file"):
        require_writable(tmp_path / "file" / "deep")
