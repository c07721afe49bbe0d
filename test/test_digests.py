import pytest

from tttkd_ros import digests
from tttkd_ros.digests import code, differences, digest, edges


@pytest.mark.parametrize("place", [0, -1])
def test_a_change_at_either_end_of_a_file_is_seen(tmp_path, place, monkeypatch):
    monkeypatch.setattr(digests, "EDGE", 4)
    content = bytearray(range(20))
    (tmp_path / "bag").write_bytes(content)
    before = edges(tmp_path)
    content[place] ^= 1
    (tmp_path / "bag").write_bytes(content)
    assert edges(tmp_path) != before and list(before) == ["bag"]


def test_a_change_of_size_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "EDGE", 4)
    (tmp_path / "bag").write_bytes(bytes(20))
    before = edges(tmp_path)
    (tmp_path / "bag").write_bytes(bytes(21))
    assert edges(tmp_path) != before


def test_a_digest_is_of_all_of_a_folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "model").write_bytes(b"1")
    before = digest(tmp_path)
    assert digest(tmp_path) == before
    (tmp_path / "below" / "model").write_bytes(b"2")
    assert digest(tmp_path) != before


def test_code_has_one_digest_which_is_that_of_all_that_is_named():
    assert code(["bags", "frame.py"]) == code(["bags", "frame.py"]) != code(["bags"])


def test_differences_are_of_what_both_tell():
    then, now = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [2], "e": 4}
    assert differences(then, now) == ["a.c: 2 then, 3 now", "d: [1] then, [2] now"]
