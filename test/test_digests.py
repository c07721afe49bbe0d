import re
import subprocess

import pytest

from tttkd_ros import digests
from tttkd_ros.digests import code_version, differences, digest, edge_digests


@pytest.mark.parametrize("place", [0, -1])
def test_a_change_at_either_end_of_a_file_is_seen(tmp_path, place, monkeypatch):
    monkeypatch.setattr(digests, "EDGE", 4)
    content = bytearray(range(20))
    (tmp_path / "bag").write_bytes(content)
    before = edge_digests(tmp_path)
    content[place] ^= 1
    (tmp_path / "bag").write_bytes(content)
    assert edge_digests(tmp_path) != before and list(before) == ["bag"]


def test_a_change_of_size_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "EDGE", 4)
    (tmp_path / "bag").write_bytes(bytes(20))
    before = edge_digests(tmp_path)
    (tmp_path / "bag").write_bytes(bytes(21))
    assert edge_digests(tmp_path) != before


def test_a_digest_is_of_all_of_a_folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "model").write_bytes(b"1")
    before = digest(tmp_path)
    assert digest(tmp_path) == before
    (tmp_path / "below" / "model").write_bytes(b"2")
    assert digest(tmp_path) != before


def test_differences_compare_common_entries():
    then, now = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [2], "e": 4}
    assert differences(then, now) == ["a.c: 2 then, 3 now", "d: [1] then, [2] now"]


def checkout(folder, monkeypatch):
    """A copy of the package's folder in a git repository of its own, as the package."""
    module = folder / "tttkd_ros" / "__init__.py"
    module.parent.mkdir()
    module.touch()
    monkeypatch.setattr(digests.tttkd_ros, "__file__", str(module))
    code_version.cache_clear()

    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x", *arguments], cwd=folder, check=True,
                       capture_output=True)

    return module, git


@pytest.fixture(autouse=True)
def version_is_computed_again():
    yield
    code_version.cache_clear()


def test_without_git_the_version_stands_for_the_code(tmp_path, monkeypatch):
    checkout(tmp_path, monkeypatch)
    assert re.fullmatch(r"\d+\.\d+\.\d+", code_version())


def test_in_a_checkout_the_commit_and_uncommitted_changes_are_named(tmp_path, monkeypatch):
    module, git = checkout(tmp_path, monkeypatch)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    committed = code_version()
    assert re.fullmatch(r"\d+\.\d+\.\d+, commit [0-9a-f]{12}", committed)
    module.write_text("changed = True\n")
    versions = []
    for _ in range(2):  # two processes, of which nobody knows whether their code is the same
        code_version.cache_clear()
        versions.append(code_version())
    assert all(version.startswith(f"{committed} with uncommitted changes of ") for version in versions)
    assert versions[0] != versions[1]
