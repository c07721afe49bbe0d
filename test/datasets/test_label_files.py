"""Label files as the truth of a bag: by number or by stamp, in the ids of SemanticKITTI or of a classes.yaml."""

from dataclasses import replace

import numpy as np
import pytest

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.datasets.label_files import LabelFiles
from tttkd_ros.datasets.source import open_source
from tttkd_ros.evaluation.part_drives import open_drive
from tttkd_ros.frame import Frame

OPTIONS = dict(truth=True, truth_topic=None, labels=None, rig=None, offset=())


def make_frames(count, points=2):
    return [Frame(1_700_000_000 * 10**9 + index, np.ones((points, 3), np.float32)) for index in range(count)]


def write_labels(folder, names):
    for index, name in enumerate(names):
        np.array([10 + 8 * index, 0], "<u4").tofile(folder / f"{name}.label")


def test_numbered_label_files_belong_to_the_sweeps_in_order(tmp_path):
    write_labels(tmp_path, ["8", "10"])
    frames = list(LabelFiles(tmp_path, 2, OUTDOOR).truth(iter(make_frames(2))))
    assert [frame.labels.tolist() for frame in frames] == [[0, UNLABELLED], [1, UNLABELLED]]


def test_label_files_named_for_stamps_belong_to_these_sweeps(tmp_path):
    frames = make_frames(3)
    write_labels(tmp_path, [frames[2].stamp])
    found = list(LabelFiles(tmp_path, 3, OUTDOOR).truth(iter(frames)))
    assert [None if frame.labels is None else frame.labels.tolist() for frame in found] == [None, None, [0, UNLABELLED]]


def test_label_files_named_for_other_stamps_are_refused(tmp_path):
    write_labels(tmp_path, [1_600_000_000 * 10**9])
    with pytest.raises(ValueError, match="named for the stamp of a sweep"):
        list(LabelFiles(tmp_path, 3, OUTDOOR).truth(iter(make_frames(3))))


def test_another_number_of_label_files_is_refused_except_for_a_bag_that_is_cut_short(tmp_path):
    write_labels(tmp_path, ["000000", "000001"])
    for sweeps, complete in ((1, True), (3, True), (3, False)):
        with pytest.raises(ValueError, match=f"labels of 2 sweeps, but the bag has {sweeps}"):
            LabelFiles(tmp_path, sweeps, OUTDOOR, complete=complete)
    (frame,) = LabelFiles(tmp_path, 1, OUTDOOR, complete=False).truth(iter(make_frames(1)))
    assert frame.labels.tolist() == [0, UNLABELLED]


def test_labels_for_another_number_of_points_are_refused(tmp_path):
    write_labels(tmp_path, ["000000"])
    with pytest.raises(ValueError, match="000000.label holds 8 bytes, expected 12: one label for each"):
        list(LabelFiles(tmp_path, 1, OUTDOOR).truth(iter(make_frames(1, points=3))))


def test_a_folder_without_label_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no labels: expected files such as 000000.label"):
        LabelFiles(tmp_path, 1, OUTDOOR)


def test_label_files_replace_other_truth(tmp_path):
    write_labels(tmp_path, ["000000"])
    frame = replace(make_frames(1)[0], labels=np.full(2, 9, np.uint8))
    (found,) = LabelFiles(tmp_path, 1, OUTDOOR).truth(iter([frame]))
    assert found.labels.tolist() == [0, UNLABELLED]


@pytest.mark.parametrize("missing", [(0, 0, 0), (np.nan, 1, 1), (1, np.inf, 1)])
def test_labels_of_points_that_are_no_return_are_ignored(tmp_path, missing):
    np.array([10, 18], "<u4").tofile(tmp_path / "000000.label")
    frame = make_frames(1)[0]
    frame.points[0] = missing
    (found,) = LabelFiles(tmp_path, 1, OUTDOOR).truth(iter([frame]))
    assert found.labels.tolist() == [UNLABELLED, 1]


def test_a_file_beside_the_folder_names_the_classes(tmp_path):
    (tmp_path / "labels").mkdir()
    np.array([7, 0], "<u4").tofile(tmp_path / "labels" / "000000.label")
    (tmp_path / "classes.yaml").write_text("0: unlabelled\n7: road\n")
    (found,) = LabelFiles(tmp_path / "labels", 1, OUTDOOR).truth(iter(make_frames(1)))
    assert found.labels.tolist() == [OUTDOOR.names.index("road"), UNLABELLED]
    (tmp_path / "classes.yaml").write_text("7: spaceship\n")
    with pytest.raises(ValueError, match="says nothing of labels's 'spaceship', 'unlabelled'|'spaceship'"):
        LabelFiles(tmp_path / "labels", 1, OUTDOOR)


@pytest.fixture
def labelled_bag(tmp_path):
    """A bag of three sweeps whose truth is car, with files in its folder that say road for the second sweep."""
    frames = make_frames(3)
    with BagWriter(tmp_path / "drive") as bag:
        for frame in frames:
            bag.write_frame(replace(frame, labels=np.zeros(2, np.uint8)))
    (tmp_path / "drive" / "labels").mkdir()
    np.array([40, 40], "<u4").tofile(tmp_path / "drive" / "labels" / f"{frames[1].stamp}.label")
    return tmp_path / "drive"


def test_label_files_in_the_bags_folder_replace_its_truth(labelled_bag):
    road = OUTDOOR.names.index("road")
    (part,) = open_source(str(labelled_bag), OUTDOOR)
    expected = [None, [road, road], None]
    drive = open_drive(part, OUTDOOR, **OPTIONS)
    assert drive.truth == str(labelled_bag / "labels")
    for source in (part, drive):
        assert [frame.labels if frame.labels is None else frame.labels.tolist() for frame in source] == expected


def test_they_are_no_truth_if_none_or_another_is_asked_for(labelled_bag):
    (part,) = open_source(str(labelled_bag), OUTDOOR)
    assert all(frame.labels is None for frame in open_drive(part, OUTDOOR, **OPTIONS | {"truth": False}))
    drive = open_drive(part, OUTDOOR, **OPTIONS | {"truth_topic": "/truth/points_labeled"})
    assert [frame.labels.tolist() for frame in drive] == [[0, 0]] * 3


def test_changed_label_files_are_other_inputs(labelled_bag):
    (before,) = open_source(str(labelled_bag), OUTDOOR)
    found = dict(before.inputs)
    (path,) = (labelled_bag / "labels").iterdir()
    np.array([40, 10], "<u4").tofile(path)
    (after,) = open_source(str(labelled_bag), OUTDOOR)
    assert after.inputs != found
