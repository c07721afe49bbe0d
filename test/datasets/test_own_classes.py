"""A class set of the user's own, from the data set's folder through a bag to the evaluation."""

import json

import numpy as np
import pytest
import torch
import yaml

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import OUTDOOR, UNLABELLED, load_class_set
from tttkd_ros.cli.convert import convert
from tttkd_ros.cli.evaluate import evaluate
from tttkd_ros.datasets.class_maps import SEMANTIC_KITTI_IDS
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.simulation.drive import frames

CLASSES = {"vehicle": ["car", "moving-car", "truck"], "way": ["road", "sidewalk"], "house": ["building"],
           "green": ["vegetation", "terrain"], "people": ["person", "moving-person"]}
FROM_OUTDOOR = {"vehicle": ["car", "truck"], "way": ["road", "sidewalk", "parking"], "house": ["building"],
                "green": ["nature"], "people": ["person"]}


@pytest.fixture
def own_file(tmp_path):
    def write(**changes):
        classes = {name: {"colour": [index, 50, 200], "from": {"semantickitti": CLASSES[name],
                                                               "outdoor10": FROM_OUTDOOR[name]}}
                   for index, name in enumerate(CLASSES)}
        listed = {name for members in CLASSES.values() for name in members}
        ignored = {"semantickitti": sorted(set(SEMANTIC_KITTI_IDS.values()) - listed),
                   "outdoor10": ["bike", "other-objects"]}
        content = {"name": "own5", "classes": classes, "ignored": ignored} | changes
        (tmp_path / "own.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return tmp_path / "own.yaml"

    return write


@pytest.fixture
def student(tmp_path):
    """`student(class_set)`: a checkpoint of random weights."""

    def save(class_set):
        torch.manual_seed(0)
        path = tmp_path / f"{class_set.name}.safetensors"
        save_student(Student(StudentConfig(class_set=class_set, options=dict(levels=2), voxel_size=0.3)), path, {})
        return path

    return save


def evaluated(bag, model, tmp_path, **options):
    """Class -> IoU of the frozen student."""
    evaluate((bag,), method=("frozen",), model=model, teacher="nowhere", json_file=tmp_path / "out.json", **options)
    return json.loads((tmp_path / "out.json").read_text())["results"][0]["iou"]


def test_a_converted_bag_has_the_users_classes_and_is_evaluated_with_them(semantickitti, own_file, student, tmp_path):
    path = own_file()
    convert("semantickitti", semantickitti(2), tmp_path / "bag", class_set=str(path))
    reader = BagReader(tmp_path / "bag")
    assert (reader.class_set.name, reader.class_set.names) == ("own5", tuple(CLASSES))
    assert [frame.labels.tolist() for frame in reader.frames()] == [[0, 0, 1, UNLABELLED, UNLABELLED]] * 2
    iou = evaluated(tmp_path / "bag", student(load_class_set(path)), tmp_path)
    assert set(iou) == set(CLASSES)
    assert {name for name, value in iou.items() if value is not None} == {"vehicle", "way"}


def test_a_student_of_other_classes_is_refused_with_the_remedy(semantickitti, own_file, student, tmp_path):
    convert("semantickitti", semantickitti(2), tmp_path / "bag", class_set=str(own_file()))
    with pytest.raises(ValueError, match="bag has labels of class set 'own5' .vehicle.*'outdoor10' says nothing of "
                                         "'own5'.*--class-set.*--no-truth"):
        evaluated(tmp_path / "bag", student(OUTDOOR), tmp_path)
    assert set(evaluated(tmp_path / "bag", student(OUTDOOR), tmp_path, truth=False).values()) <= {None}


def test_a_bag_of_the_simulator_is_mapped_to_the_users_classes(own_file, student, tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for frame in frames("kitti", 1, 2):
            bag.write_frame(frame)
    own = load_class_set(own_file())
    before, after = ([frame.labels for frame in BagDrive(tmp_path / "bag", class_set=class_set)]
                     for class_set in (OUTDOOR, own))
    table = np.full(256, UNLABELLED, np.uint8)
    for label, members in enumerate(FROM_OUTDOOR.values()):
        table[[OUTDOOR.names.index(name) for name in members]] = label
    assert all((table[old] == new).all() for old, new in zip(before, after, strict=True))
    iou = evaluated(tmp_path / "bag", student(own), tmp_path)
    assert iou["way"] is not None and set(iou) == set(CLASSES)


def test_labels_that_the_bags_own_set_does_not_have_are_refused(own_file, tmp_path):
    own = load_class_set(own_file())
    with BagWriter(tmp_path / "bag") as bag:
        for frame in frames("kitti", 1, 1):
            frame.labels[:] = 10
            bag.write_frame(frame)
    with pytest.raises(ValueError, match="truth stamped [0-9]+: label 10 is not one of"):
        list(BagDrive(tmp_path / "bag", class_set=own))


def test_a_bag_without_a_note_has_the_classes_of_the_student(tmp_path, own_file, monkeypatch):
    monkeypatch.setattr("tttkd_ros.bags.writer.LABEL_INFO_TOPIC", "/elsewhere/label_info")
    with BagWriter(tmp_path / "bag") as bag:
        for frame in frames("kitti", 1, 1):
            bag.write_frame(frame)
    (plain,), (own,) = (list(BagDrive(tmp_path / "bag", class_set=each)) for each in (OUTDOOR,
                                                                                    load_class_set(own_file())))
    assert BagReader(tmp_path / "bag").class_set is None
    np.testing.assert_array_equal(plain.labels, own.labels)


def test_a_class_that_the_file_leaves_out_is_named_before_anything_is_written(semantickitti, own_file, tmp_path):
    path = own_file(ignored={"semantickitti": ["unlabeled"]})
    with pytest.raises(ValueError, match="class set 'own5' says nothing of semantickitti's 'bicycle', "):
        convert("semantickitti", semantickitti(2), tmp_path / "bag", class_set=str(path))
    assert not (tmp_path / "bag").exists()


def test_another_class_set_starts_a_conversion_over(semantickitti, own_file, tmp_path, monkeypatch, caplog):
    folder = semantickitti(3)
    monkeypatch.setattr("tttkd_ros.datasets.conversion.SWEEPS_PER_FILE", 1)
    monkeypatch.setattr("tttkd_ros.datasets.conversion._join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        convert("semantickitti", folder, tmp_path / "bag")
    monkeypatch.undo()
    convert("semantickitti", folder, tmp_path / "bag", class_set=str(own_file()))
    assert "class set: outdoor10 then, own5 now" in caplog.text
    assert BagReader(tmp_path / "bag").class_set.name == "own5"


def test_label_files_become_the_students_classes(own_file, tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for frame in frames("kitti", 1, 1):
            bag.write_frame(frame)
    (tmp_path / "labels").mkdir()
    np.full(len(frame.points), 50, "<u4").tofile(tmp_path / "labels" / "000000.label")
    own = load_class_set(own_file())
    (read,) = BagDrive(tmp_path / "bag", labels=tmp_path / "labels", class_set=own)
    assert set(np.unique(read.labels)) <= {list(CLASSES).index("house"), UNLABELLED}
