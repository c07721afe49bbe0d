from pathlib import Path

import pytest

from tttkd_ros.evaluation import inputs
from tttkd_ros.evaluation.inputs import bag_names, code, differences, digest, edges


def test_bags_are_called_as_their_folders(tmp_path):
    assert list(bag_names([tmp_path / "x" / "east", Path("west.mcap")])) == ["east", "west.mcap"]


def test_bags_of_one_name_are_called_with_the_folder_above(tmp_path):
    assert list(bag_names([tmp_path / "x" / "bag", tmp_path / "y" / "bag"])) == ["x_bag", "y_bag"]


def test_no_bag_is_called_as_all_of_them_together(tmp_path):
    assert list(bag_names([tmp_path / "x" / "all", tmp_path / "east"])) == ["x_all", "east"]


def test_one_bag_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="two bags are called"):
        bag_names([tmp_path / "bag", tmp_path / "bag"])


@pytest.mark.parametrize("place", [0, -1])
def test_a_change_at_either_end_of_a_file_is_seen(tmp_path, place, monkeypatch):
    monkeypatch.setattr(inputs, "EDGE", 4)
    content = bytearray(range(20))
    (tmp_path / "bag").write_bytes(content)
    before = edges(tmp_path)
    content[place] ^= 1
    (tmp_path / "bag").write_bytes(content)
    assert edges(tmp_path) != before and list(before) == ["bag"]


def test_a_change_of_size_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "EDGE", 4)
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


def test_the_code_that_decides_figures_has_one_digest(tmp_path, monkeypatch):
    assert code() == code()
    monkeypatch.setattr(inputs, "CODE", inputs.CODE[1:])
    assert code(inputs.CODE) != code((*inputs.CODE, "adaptation"))


def test_differences_are_of_what_both_tell():
    then, now = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [2], "e": 4}
    assert differences(then, now) == ["a.c: 2 then, 3 now", "d: [1] then, [2] now"]
