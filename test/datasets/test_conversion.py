import hashlib
import json
import logging

import cv2
import numpy as np
import pytest

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.datasets import conversion
from tttkd_ros.datasets.a2d2 import open_a2d2
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.kitti import open_kitti
from tttkd_ros.datasets.nuscenes import NuScenes
from tttkd_ros.datasets.semantickitti import open_semantickitti


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(conversion, "PART", 2)


class Interrupted:
    """A recording whose reading stops at one sweep, and which knows what was read."""

    def __init__(self, recording, at=None):
        self._recording, self._at, self.read = recording, at, []
        self.inputs = recording.inputs

    def __len__(self):
        return len(self._recording)

    def __getitem__(self, index):
        if index == self._at:
            raise KeyboardInterrupt
        self.read.append(index)
        return self._recording[index]


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
        records = list(bag.messages(bag.types))
        assert bag.counts.total() == len(records)


def test_an_interrupted_conversion_leaves_no_bag_and_goes_on_to_the_same(semantickitti, tmp_path):
    recording = open_semantickitti(semantickitti(5))
    write_bag(recording, tmp_path / "straight", {})
    (tmp_path / "straight").rename(tmp_path / "kept")
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(recording, at=3), tmp_path / "straight", {})
    assert not (tmp_path / "straight").exists()
    rest, told = Interrupted(recording), []
    write_bag(rest, tmp_path / "straight", {}, on_sweeps=told.append)
    assert rest.read == [2, 3, 4] and sum(told) == 5
    assert contents(tmp_path / "straight") == contents(tmp_path / "kept")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "kept", "straight"]


def test_a_killed_writer_s_part_is_written_anew(semantickitti, tmp_path):
    recording = open_semantickitti(semantickitti(3))
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(recording, at=2), tmp_path / "bag", {})
    left = tmp_path / ".bag.conversion" / ".bag_1-abc.partial" / "bag_1"
    left.mkdir(parents=True)
    (left / "bag_1.mcap").write_bytes(b"half")
    write_bag(recording, tmp_path / "bag", {})
    assert len(list(BagReader(tmp_path / "bag").frames())) == 3


def test_files_that_were_joined_before_an_interruption_are_kept(semantickitti, tmp_path, monkeypatch):
    recording = open_semantickitti(semantickitti(5))

    def join_and_stop(parts, out):
        out.mkdir()
        (parts[0] / "bag_0.mcap").rename(out / "bag_0.mcap")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(conversion, "join_bags", join_and_stop)
        write_bag(recording, tmp_path / "bag", {})
    rest = Interrupted(recording)
    write_bag(rest, tmp_path / "bag", {})
    assert rest.read == [] and len(list(BagReader(tmp_path / "bag").frames())) == 5


def test_another_source_starts_over_and_is_named(semantickitti, tmp_path, caplog):
    recording = open_semantickitti(semantickitti(3))
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(recording, at=2), tmp_path / "bag", {"folder": "one"})
    rest = Interrupted(recording)
    write_bag(rest, tmp_path / "bag", {"folder": "another"})
    assert rest.read == [0, 1, 2]
    assert "bag is begun anew, for what was finished of it is of another source: folder: one then, another now" in (
        caplog.text
    )


def test_a_source_is_not_told_to_be_another_where_nothing_had_been_finished(semantickitti, tmp_path, caplog):
    recording = open_semantickitti(semantickitti(3))
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(recording, at=1), tmp_path / "bag", {"folder": "one"})
    write_bag(recording, tmp_path / "bag", {"folder": "another"})
    assert "begun anew" not in caplog.text


def test_labels_that_came_during_an_interruption_are_the_truth_of_all_sweeps(semantickitti, tmp_path, caplog):
    folder = semantickitti(3)
    labels = folder / "sequences" / "03" / "labels"
    labels.rename(folder / "away")
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(open_semantickitti(folder), at=2), tmp_path / "bag", {})
    (folder / "away").rename(labels)
    write_bag(open_semantickitti(folder), tmp_path / "bag", {})
    assert [frame.labels is not None for frame in BagReader(tmp_path / "bag").frames()] == [True] * 3
    assert "labels: False then, True now" in caplog.text


@pytest.mark.parametrize("name", ["calib.txt", "times.txt", "poses.txt", "image_2/000000.png"])
def test_files_that_were_replaced_during_an_interruption_hold_for_all_sweeps(semantickitti, tmp_path, caplog, name):
    folder = semantickitti(3)
    file = folder / "sequences" / "03" / name
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(open_semantickitti(folder), at=2), tmp_path / "bag", {})
    if name == "image_2/000000.png":
        file.write_bytes(file.with_name("000001.png").read_bytes())
    else:
        file.write_text(file.read_text() + "\n")
    rest = Interrupted(open_semantickitti(folder))
    write_bag(rest, tmp_path / "bag", {})
    assert rest.read == [0, 1, 2] and f"files.{name}: " in caplog.text


def test_another_converter_starts_over(semantickitti, tmp_path, caplog, monkeypatch):
    recording = open_semantickitti(semantickitti(3))
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(recording, at=2), tmp_path / "bag", {})
    monkeypatch.setattr(conversion, "CODE", conversion.CODE[1:])
    rest = Interrupted(recording)
    write_bag(rest, tmp_path / "bag", {})
    assert rest.read == [0, 1, 2] and "another source: code: " in caplog.text


@pytest.mark.parametrize("told", [b"", b"[]", b"{}"])
def test_what_does_not_tell_of_its_source_is_not_kept(semantickitti, tmp_path, caplog, told):
    recording = open_semantickitti(semantickitti(3))
    with pytest.raises(KeyboardInterrupt):
        write_bag(Interrupted(recording, at=2), tmp_path / "bag", {})
    (tmp_path / ".bag.conversion" / "source.json").write_bytes(told)
    rest = Interrupted(recording)
    write_bag(rest, tmp_path / "bag", {})
    assert rest.read == [0, 1, 2] and "of which, it does not tell" in caplog.text


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
        ("nuscenes", "v1.0-mini/category.json", "vehicle.car", "vehicle.van"),
        ("a2d2", "cams_lidars.json", "1.7", "1.8"),
        ("a2d2", "class_list.json", "Sky", "Sea"),
    ],
)
def test_every_recording_s_inputs_follow_its_calibration_times_poses_and_classes(request, dataset, name, old, new):
    made = request.getfixturevalue(dataset)
    folder = made() if callable(made) else made
    opened = {"kitti_drive": open_kitti, "nuscenes": NuScenes, "a2d2": open_a2d2}[dataset]
    before = opened(folder).inputs
    assert opened(folder).inputs == before == json.loads(json.dumps(before))
    (folder / name).write_text((folder / name).read_text().replace(old, new))
    assert opened(folder).inputs != before


def test_a_folder_s_inputs_follow_its_calibration_and_how_many_images_there_are(tmp_path):
    for index in range(2):
        np.zeros((5, 4), "<f4").tofile(tmp_path / f"{index}.bin")
    (tmp_path / "calib.txt").write_text("P2: 700 0 4 70 0 700 3 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
                                        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    first = open_kitti(tmp_path).inputs
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((6, 8, 3), np.uint8))
    second = open_kitti(tmp_path).inputs
    (tmp_path / "calib.txt").write_text((tmp_path / "calib.txt").read_text().replace("700", "701"))
    assert first != second != open_kitti(tmp_path).inputs != first


def test_a_damaged_file_leaves_what_is_finished_and_once_replaced_the_rest_is_written(semantickitti, tmp_path):
    folder = semantickitti(3)
    label = folder / "sequences" / "03" / "labels" / "000002.label"
    whole = label.read_bytes()
    label.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="000002.label holds 16 bytes, expected 20"):
        write_bag(open_semantickitti(folder), tmp_path / "bag", {})
    label.write_bytes(whole)
    rest = Interrupted(open_semantickitti(folder))
    write_bag(rest, tmp_path / "bag", {})
    assert rest.read == [2]


def test_a_bag_that_exists_is_not_touched(semantickitti, tmp_path):
    (tmp_path / "bag").mkdir()
    recording = Interrupted(open_semantickitti(semantickitti(3)))
    with pytest.raises(ValueError, match="bag exists: choose another name"):
        write_bag(recording, tmp_path / "bag", {})
    assert recording.read == []


def test_a_sweep_is_read_when_it_is_written(semantickitti, tmp_path):
    recording, read = Interrupted(open_semantickitti(semantickitti(5))), []
    write_bag(recording, tmp_path / "bag", {}, on_sweeps=lambda _: read.append(list(recording.read)))
    assert read == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_the_command_converts_and_names_the_layouts(semantickitti, tmp_path, caplog):
    from tttkd_ros.cli.convert import convert

    convert("semantickitti", semantickitti(3), tmp_path / "bag")
    assert len(BagReader(tmp_path / "bag")) == 3
    with pytest.raises(ValueError, match="no folder at"):
        convert("a2d2", tmp_path / "none", tmp_path / "other")
    assert not caplog.records or all(record.levelno < logging.ERROR for record in caplog.records)
