import shutil

import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR, UNLABELLED, ClassSet
from tttkd_ros.datasets.labels import open_recording, scenes

OWN = ClassSet("own2", ("vehicle", "ground"), ((0, 0, 0), (1, 1, 1)),
               {"labels": {"car": "vehicle", "road": "ground"}}, {"labels": ("unlabelled",)})


def test_labels_are_the_class_sets_own_names_without_a_section(labelled_folders):
    assert scenes(labelled_folders) == ["00", "01"]
    frame = open_recording(labelled_folders, "01")[1].frame
    car, road = (OUTDOOR.names.index(name) for name in ("car", "road"))
    assert frame.labels.tolist() == [car, road, UNLABELLED, car, road]
    assert frame.views == () and frame.points.shape == (5, 3) and frame.intensity.shape == (5,)


def test_the_section_labels_of_a_class_set_maps_them(labelled_folders):
    assert open_recording(labelled_folders, "00", OWN)[0].frame.labels.tolist() == [0, 1, UNLABELLED, 0, 1]


def test_a_sequence_without_labels_needs_no_names(labelled_folders):
    shutil.rmtree(labelled_folders / "00" / "labels")
    (labelled_folders / "classes.yaml").unlink()
    recording = open_recording(labelled_folders / "00")
    assert recording.class_set is None and recording[0].frame.labels is None


@pytest.mark.parametrize(("content", "message"), [
    ("1: car\n2: spaceship\n0: unlabelled\n", "classes.yaml: class set 'outdoor10' says nothing of .*'spaceship'"),
    ("car: 1\n", "has the line 'car': 1; expected lines such as '1: car'"),
    ("- car\n", "names no classes: expected lines such as '1: car'"),
    ("{", "classes.yaml is not YAML"),
    ("1: car\n2: road\n1: truck\n", "classes.yaml: '1' occurs twice in one mapping, again in line 3: keep one"),
    ("0: unlabelled\n1: car\n", "000000.label: label 2 is not one of the data set's 2"),
])  # fmt: skip
def test_names_that_do_not_fit_are_refused(labelled_folders, content, message):
    (labelled_folders / "classes.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        open_recording(labelled_folders, "00")[0]


def test_missing_names_and_labels_of_another_length_are_refused(labelled_folders):
    np.array([1], "<u4").tofile(labelled_folders / "00" / "labels" / "000000.label")
    with pytest.raises(ValueError, match="one label for each of the sweep's 5 points"):
        open_recording(labelled_folders, "00")[0]
    (labelled_folders / "classes.yaml").unlink()
    with pytest.raises(ValueError, match="classes.yaml is missing: it names the classes of the labels by id"):
        open_recording(labelled_folders, "00")
