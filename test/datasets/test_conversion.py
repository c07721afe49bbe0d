import hashlib
import json

import cv2
import numpy as np
import pytest
import yaml

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.cli.convert import convert
from tttkd_ros.datasets import conversion
from tttkd_ros.datasets.a2d2 import open_recording as open_a2d2
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.kitti import open_recording as open_kitti
from tttkd_ros.datasets.nuscenes import open_recording as open_nuscenes
from tttkd_ros.datasets.semantickitti import open_recording as open_semantickitti


@pytest.fixture(autouse=True)
def short_files(monkeypatch):
    monkeypatch.setattr(conversion, "SWEEPS_PER_FILE", 2)


class Interrupted:
    """A recording that records which sweeps are read, and interrupts the conversion at one of them."""

    def __init__(self, recording, at=None):
        self._recording, self._at, self.read = recording, at, []
        self.inputs, self.class_set = recording.inputs, recording.class_set

    def __len__(self):
        return len(self._recording)

    def __getitem__(self, index):
        if index == self._at:
            raise KeyboardInterrupt
        self.read.append(index)
        return self._recording[index]


def interrupt(recording, out, source, at):
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(recording, at), out, source)


def resume(recording, out, source, **options) -> list[int]:
    """Convert, and return the sweeps that were read."""
    rest = Interrupted(recording)
    write_bag(rest, out, source, **options)
    return rest.read


def contents(bag):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bag.iterdir()}


def test_a_long_recording_is_one_bag_of_several_files(semantickitti, tmp_path):
    write_bag(open_semantickitti(semantickitti(5)), tmp_path / "bag", {})
    assert sorted(path.name for path in (tmp_path / "bag").iterdir()) == [
        "bag_0.mcap", "bag_1.mcap", "bag_2.mcap", "metadata.yaml"
    ]
    reader = BagReader(tmp_path / "bag")
    frames = list(reader.frames())
    assert len(reader) == len(frames) == 5
    assert [int(frame.views[0].image[0, 0, 2]) for frame in frames] == [0, 1, 2, 3, 4]
    with open_bag(tmp_path / "bag") as bag:
        messages = list(bag.messages(bag.types))
        assert bag.counts.total() == len(messages)
    metadata = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["message_count"] == len(messages)
    assert metadata["starting_time"]["nanoseconds_since_epoch"] == messages[0].time
    assert metadata["duration"]["nanoseconds"] == messages[-1].time - messages[0].time
    topics = metadata["topics_with_message_count"]
    assert {topic["topic_metadata"]["name"]: topic["message_count"] for topic in topics} == bag.counts


def test_an_interrupted_conversion_leaves_no_bag_and_continues_to_the_same(semantickitti, tmp_path):
    recording, out, counts = open_semantickitti(semantickitti(5)), tmp_path / "bag", []
    write_bag(recording, out, {})
    out.rename(tmp_path / "uninterrupted")
    interrupt(recording, out, {}, at=3)
    assert not out.exists()
    assert resume(recording, out, {}, on_sweeps=counts.append) == [2, 3, 4] and sum(counts) == 5
    assert contents(out) == contents(tmp_path / "uninterrupted")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "dataset", "uninterrupted"]


def test_the_part_of_a_killed_writer_is_written_again(semantickitti, tmp_path):
    recording = open_semantickitti(semantickitti(3))
    interrupt(recording, tmp_path / "bag", {}, at=2)
    partial = tmp_path / ".bag.conversion" / ".bag_1-abc.partial" / "bag_1"
    partial.mkdir(parents=True)
    (partial / "bag_1.mcap").write_bytes(b"half")
    write_bag(recording, tmp_path / "bag", {})
    assert len(list(BagReader(tmp_path / "bag").frames())) == 3


def test_files_that_were_joined_before_an_interruption_are_reused(semantickitti, tmp_path, monkeypatch):
    recording = open_semantickitti(semantickitti(5))

    def join_one_and_stop(parts, out):
        out.mkdir()
        (parts[0] / "bag_0.mcap").rename(out / "bag_0.mcap")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_join", join_one_and_stop)
        interrupt(recording, tmp_path / "bag", {}, at=None)
    assert resume(recording, tmp_path / "bag", {}) == []
    assert len(list(BagReader(tmp_path / "bag").frames())) == 5


@pytest.mark.parametrize("content", [b"", b"rosbag2_bagfile_information: {}", b"\0: ["])
def test_a_damaged_description_of_a_part_is_refused_with_the_remedy(semantickitti, tmp_path, content):
    recording = open_semantickitti(semantickitti(3))
    interrupt(recording, tmp_path / "bag", {}, at=2)
    (tmp_path / ".bag.conversion" / "bag_0" / "metadata.yaml").write_bytes(content)
    with pytest.raises(ValueError, match="metadata.yaml in .*/.bag.conversion is damaged .*: remove that folder"):
        write_bag(recording, tmp_path / "bag", {})


def test_another_source_starts_over_and_is_named(semantickitti, tmp_path, caplog):
    recording = open_semantickitti(semantickitti(3))
    interrupt(recording, tmp_path / "bag", {"folder": "one"}, at=2)
    assert resume(recording, tmp_path / "bag", {"folder": "another"}) == [0, 1, 2]
    assert "its finished parts have another source: folder: one then, another now" in caplog.text


def test_another_source_is_not_mentioned_if_nothing_was_finished(semantickitti, tmp_path, caplog):
    recording = open_semantickitti(semantickitti(3))
    interrupt(recording, tmp_path / "bag", {"folder": "one"}, at=1)
    write_bag(recording, tmp_path / "bag", {"folder": "another"})
    assert "starts over" not in caplog.text


def test_labels_that_are_added_during_an_interruption_are_the_truth_of_all_sweeps(semantickitti, tmp_path, caplog):
    folder = semantickitti(3)
    labels = folder / "sequences" / "03" / "labels"
    labels.rename(folder / "away")
    interrupt(open_semantickitti(folder), tmp_path / "bag", {}, at=2)
    (folder / "away").rename(labels)
    write_bag(open_semantickitti(folder), tmp_path / "bag", {})
    assert [frame.labels is not None for frame in BagReader(tmp_path / "bag").frames()] == [True] * 3
    assert "labels: False then, True now" in caplog.text


@pytest.mark.parametrize("name", ["calib.txt", "times.txt", "poses.txt", "image_2/000000.png"])
def test_files_that_are_replaced_during_an_interruption_apply_to_all_sweeps(semantickitti, tmp_path, caplog, name):
    folder = semantickitti(3)
    file = folder / "sequences" / "03" / name
    interrupt(open_semantickitti(folder), tmp_path / "bag", {}, at=2)
    if name == "image_2/000000.png":
        cv2.imwrite(str(file), np.full((6, 8, 3), 99, np.uint8))
    else:
        file.write_text(file.read_text() + "\n")
    assert resume(open_semantickitti(folder), tmp_path / "bag", {}) == [0, 1, 2]
    assert f"files.{name}: " in caplog.text


def test_another_converter_starts_over(semantickitti, tmp_path, caplog, monkeypatch):
    recording = open_semantickitti(semantickitti(3))
    interrupt(recording, tmp_path / "bag", {}, at=2)
    monkeypatch.setattr(conversion, "code_version", lambda: "another")
    assert resume(recording, tmp_path / "bag", {}) == [0, 1, 2]
    assert "another source: code: " in caplog.text


@pytest.mark.parametrize("content", [b"", b"[]", b"{}"])
def test_parts_of_unknown_source_are_not_reused(semantickitti, tmp_path, caplog, content):
    recording = open_semantickitti(semantickitti(3))
    interrupt(recording, tmp_path / "bag", {}, at=2)
    (tmp_path / ".bag.conversion" / "source.json").write_bytes(content)
    assert resume(recording, tmp_path / "bag", {}) == [0, 1, 2]
    assert "source.json does not say which" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "name", "old", "new"),
    [
        ("kitti_drive", "../calib_cam_to_cam.txt", "700", "701"),
        ("kitti_drive", "../calib_velo_to_cam.txt", "-0.1", "-0.2"),
        ("kitti_drive", "velodyne_points/timestamps.txt", "02:25", "02:24"),
        ("kitti_drive", "image_02/timestamps.txt", "02:25", "02:24"),
        ("kitti_drive", "oxts/data/0000000001.txt", "116.0", "117.0"),
        ("nuscenes", "v1.0-mini/calibrated_sensor.json", "5.0", "6.0"),
        ("nuscenes", "v1.0-mini/ego_pose.json", "400.0", "401.0"),
        ("nuscenes", "v1.0-mini/category.json", "vehicle.car", "vehicle.truck"),
        ("a2d2", "cams_lidars.json", "1.7", "1.8"),
        ("a2d2", "class_list.json", "Sky", "Tractor"),
    ],
)
def test_inputs_depend_on_calibration_times_poses_and_classes(request, dataset, name, old, new):
    fixture = request.getfixturevalue(dataset)
    folder = fixture() if callable(fixture) else fixture
    opener = {"kitti_drive": open_kitti, "nuscenes": open_nuscenes, "a2d2": open_a2d2}[dataset]
    before = opener(folder).inputs
    assert opener(folder).inputs == before == json.loads(json.dumps(before))
    (folder / name).write_text((folder / name).read_text().replace(old, new))
    assert opener(folder).inputs != before


def test_the_inputs_of_a_kitti_folder_depend_on_its_calibration_and_number_of_images(tmp_path):
    for index in range(2):
        np.zeros((5, 4), "<f4").tofile(tmp_path / f"{index}.bin")
    (tmp_path / "calib.txt").write_text("P2: 700 0 4 70 0 700 3 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
                                        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    first = open_kitti(tmp_path).inputs
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((6, 8, 3), np.uint8))
    second = open_kitti(tmp_path).inputs
    (tmp_path / "calib.txt").write_text((tmp_path / "calib.txt").read_text().replace("700", "701"))
    assert first != second != open_kitti(tmp_path).inputs != first


def test_after_a_damaged_file_is_replaced_the_conversion_continues(semantickitti, tmp_path):
    folder = semantickitti(3)
    label = folder / "sequences" / "03" / "labels" / "000002.label"
    content = label.read_bytes()
    label.write_bytes(content[:-4])
    with pytest.raises(ValueError, match="000002.label holds 16 bytes, expected 20"):
        write_bag(open_semantickitti(folder), tmp_path / "bag", {})
    label.write_bytes(content)
    assert resume(open_semantickitti(folder), tmp_path / "bag", {}) == [2]


def test_an_existing_bag_is_refused_before_anything_is_read(semantickitti, tmp_path):
    (tmp_path / "bag").mkdir()
    recording = Interrupted(open_semantickitti(semantickitti(3)))
    with pytest.raises(ValueError, match="bag exists: choose another name"):
        write_bag(recording, tmp_path / "bag", {})
    assert recording.read == []


def test_a_sweep_is_read_when_it_is_written(semantickitti, tmp_path):
    recording, read = Interrupted(open_semantickitti(semantickitti(3))), []
    write_bag(recording, tmp_path / "bag", {}, on_sweeps=lambda _: read.append(list(recording.read)))
    assert read == [[0], [0, 1], [0, 1, 2]]


def test_the_command_converts_and_refuses_a_missing_folder(semantickitti, tmp_path):
    convert("semantickitti", semantickitti(3), tmp_path / "bag")
    assert len(BagReader(tmp_path / "bag")) == 3
    with pytest.raises(ValueError, match="no folder at"):
        convert("a2d2", tmp_path / "none", tmp_path / "other")
