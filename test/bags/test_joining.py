import pytest
import yaml

from tttkd_ros.bags.joining import join_bags
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag


def information(bag):
    return yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]


@pytest.fixture
def parts(frame, write_frames):
    """Three bags that follow one another; the second has no image."""
    return [
        write_frames([frame(2 * part + index, views=part != 1) for index in range(2)], name=f"part_{part}")
        for part in range(3)
    ]


def test_bags_that_follow_one_another_are_one(frame, parts, tmp_path):
    join_bags(parts, tmp_path / "whole")
    frames = list(BagReader(tmp_path / "whole").frames())
    assert [each.stamp for each in frames] == [frame(index).stamp for index in range(6)]
    assert [len(each.views) for each in frames] == [1, 1, 0, 0, 1, 1]


def test_the_description_counts_and_spans_all(frame, parts, tmp_path):
    parted = [information(part) for part in parts]
    join_bags(parts, tmp_path / "whole")
    whole = information(tmp_path / "whole")
    assert whole["message_count"] == sum(each["message_count"] for each in parted)
    assert whole["starting_time"]["nanoseconds_since_epoch"] == frame(0).stamp
    assert whole["duration"]["nanoseconds"] == frame(5).stamp - frame(0).stamp
    assert whole["relative_file_paths"] == [file["path"] for file in whole["files"]] == [
        "part_0.mcap", "part_1.mcap", "part_2.mcap"
    ]
    with open_bag(tmp_path / "whole") as bag:
        assert bag.counts["/lidar/points"] == 6 and bag.counts["/camera_front/image"] == 4


def test_joining_again_after_an_interruption_gives_the_same(parts, tmp_path):
    out = tmp_path / "whole"
    out.mkdir()
    (parts[0] / "part_0.mcap").rename(out / "part_0.mcap")
    join_bags(parts, out)
    join_bags(parts, out)
    assert len(list(BagReader(out).frames())) == 6


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("message_count:", "messages:", "KeyError"),
        ("part_1.mcap", "../part_2/part_2.mcap", "names files of other folders"),
        ("part_1.mcap", "x" * 300, ""),
    ],
    ids=["no count", "elsewhere", "too long a name"],
)
def test_parts_whose_descriptions_are_damaged_lose_no_file(parts, tmp_path, old, new, words):
    path = parts[1] / "metadata.yaml"
    path.write_text(path.read_text().replace(old, new))
    if words:
        with pytest.raises(ValueError, match=f"metadata.yaml in .* is damaged .*{words}.*remove the bags there"):
            join_bags(parts, tmp_path / "whole")
    else:
        join_bags(parts, tmp_path / "whole")
    assert len(list(BagReader(parts[1] / "part_1.mcap").frames())) == 2
