from pathlib import Path

import pytest

from tttkd_ros.evaluation.inputs import bag_names


def test_bags_are_named_after_their_folders(tmp_path):
    assert list(bag_names([tmp_path / "x" / "east", Path("west.mcap")])) == ["east", "west.mcap"]


def test_bags_of_one_name_include_the_parent_folder(tmp_path):
    assert list(bag_names([tmp_path / "x" / "bag", tmp_path / "y" / "bag"])) == ["x_bag", "y_bag"]


def test_no_bag_is_named_all(tmp_path):
    assert list(bag_names([tmp_path / "x" / "all", tmp_path / "east"])) == ["x_all", "east"]


def test_one_bag_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="two drives are called"):
        bag_names([tmp_path / "bag", tmp_path / "bag"])
