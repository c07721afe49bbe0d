import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR, UNLABELLED, ClassSet, built_in_class_sets, load_class_set

STREET = """
name: street3
classes:
  vehicle: {colour: [0, 110, 255], from: {semantickitti: [car, truck], outdoor10: [car]}}
  ground: {colour: [150, 90, 150], from: {semantickitti: [road]}}
  sign: {colour: [255, 0, 0]}
ignored: {semantickitti: [unlabeled]}
"""


def load(folder: Path, text: str) -> ClassSet:
    path = folder / "classes.yaml"
    path.write_text(text)
    return load_class_set(path)


def test_a_file_states_names_colours_and_where_classes_come_from(tmp_path):
    street = load(tmp_path, STREET)
    assert (street.name, street.names) == ("street3", ("vehicle", "ground", "sign"))
    assert street.palette[:3].tolist() == [[0, 110, 255], [150, 90, 150], [255, 0, 0]]
    assert (street.palette[3:] == street.palette[UNLABELLED]).all()
    assert street.groups == {
        "semantickitti": {"car": "vehicle", "truck": "vehicle", "road": "ground"}, "outdoor10": {"car": "vehicle"},
    }
    assert street.ignored == {"semantickitti": ("unlabeled",)}


@pytest.mark.parametrize("name", built_in_class_sets())
def test_a_set_is_made_of_its_own_content_again(name):
    assert ClassSet.parse(load_class_set(name).content) == load_class_set(name)


@pytest.mark.parametrize("name", built_in_class_sets())
def test_a_published_set_is_read_back(name):
    class_set = load_class_set(name)
    assert ClassSet.of_label_info(class_set.label_info) == ClassSet(name, class_set.names, class_set.colours)


@pytest.mark.parametrize("text", [
    "", "[]", "3", "[" * 100_000, "{}", '{"class_set": "x", "classes": []}', '{"class_set": "x", "classes": [1]}',
    '{"class_set": "x", "classes": [{"id": 1, "name": "car", "colour": [0, 0, 0]}]}',
    '{"class_set": "x", "classes": [{"id": 0, "name": "car", "colour": [0, 0, 0]}, '
    '{"id": 1, "name": "car", "colour": [0, 0, 0]}]}',
    '{"class_set": "x", "classes": [{"id": 0, "name": "car", "colour": [0, 0]}]}',
])
def test_another_text_is_not_read_as_a_published_set(text):
    with pytest.raises(ValueError, match="does not describe a class set"):
        ClassSet.of_label_info(text)


def test_built_in_sets_have_their_benchmarks_sizes():
    sizes = {name: len(load_class_set(name)) for name in built_in_class_sets()}
    assert sizes == {"outdoor10": 10, "semantickitti19": 19, "nuscenes16": 16, "waymo22": 22}
    assert all(load_class_set(name).name == name for name in sizes)


def test_ids_of_the_outdoor_set_are_those_of_the_shipped_students():
    assert OUTDOOR.names == (
        "car", "truck", "bike", "person", "road", "parking", "sidewalk", "building", "nature", "other-objects"
    )
    assert load_class_set("waymo22").names[:4] == ("Car", "Truck", "Bus", "Other Vehicle")


@pytest.mark.parametrize("name", built_in_class_sets())
def test_no_two_classes_have_one_colour(name):
    colours = load_class_set(name).colours
    assert len(set(colours)) == len(colours)
    assert np.array(colours).dtype == np.int64


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (STREET, "", "the file is None, expected a mapping"),
        (STREET, "- car", r"the file is \['car'\], expected a mapping"),
        (STREET, "name: [", "not YAML .*line 1"),
        ("name: street3", "title: street3", "the file has the unknown key 'title', expected classes, ignored, name"),
        ("name: street3", "name: 3", "name is 3, expected a name"),
        ("name: street3", "", "name is None, expected a name"),
        (STREET, "name: street3", "classes is None, expected a mapping"),
        (STREET, "name: street3\nclasses: {}", "it has 0 classes, expected 1 to 255"),
        ("  sign:", "  ground:", "'ground' occurs twice"),
        ("  sign:", "  no:", "a class is False, expected a name .*quote it"),
        ("sign: {colour", "sign: {color", "class 'sign' has the unknown key 'color', expected colour, from"),
        ("sign: {colour: [255, 0, 0]}", "sign: red", "class 'sign' is 'red', expected a mapping"),
        ("[255, 0, 0]", "[256, 0, 0]", r"colour of class 'sign' is \[256, 0, 0\], expected .* 0 to 255"),
        ("[255, 0, 0]", "[1.0, 0, 0]", "colour of class 'sign'"),
        ("[255, 0, 0]", "[0, 0]", "colour of class 'sign'"),
        ("{colour: [255, 0, 0]}", "{from: {}}", "colour of class 'sign' is None"),
        ("[road]", "road", "'from' of class 'ground' has 'road' for 'semantickitti', expected a list"),
        ("[road]", "[40]", "a class in 'from' of class 'ground', semantickitti is 40, expected a name"),
        ("[road]", "[car]", "semantickitti's 'car' is in 'vehicle' and again in 'ground'"),
        ("[road]", "[road, road]", "semantickitti's 'road' is in 'ground' and again in 'ground'"),
        ("[unlabeled]", "[road]", "semantickitti's 'road' is ignored and listed once more"),
        ("[unlabeled]", "[a, a]", "semantickitti's 'a' is ignored and listed once more"),
        ("{semantickitti: [unlabeled]}", "[unlabeled]", "'ignored' is .*expected a mapping"),
        ("vehicle:", "? [a, b]\n  :", "not YAML .*unhashable"),
        ("vehicle:", "\"a\\nb\":", "expected a name on one line"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_with_its_name(tmp_path, old, new, words):
    assert old in STREET
    with pytest.raises(ValueError, match=f"class set .*classes.yaml.* .*{words}") as refusal:
        load(tmp_path, STREET.replace(old, new))
    assert "\n" not in str(refusal.value)


def test_more_classes_than_labels_are_refused(tmp_path):
    entries = "".join(f"  c{index}: {{colour: [0, 0, 0]}}\n" for index in range(256))
    with pytest.raises(ValueError, match="256 classes, expected 1 to 255"):
        load(tmp_path, f"name: many\nclasses:\n{entries}")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \x00", b"[" * 20_000, b"a: !!python/object:os.system {}"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "classes.yaml").write_bytes(content)
    with pytest.raises(ValueError, match="class set .*classes.yaml"):
        load_class_set(tmp_path / "classes.yaml")


def test_aliases_do_not_make_a_message_endless(tmp_path):
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    with pytest.raises(ValueError, match="more than 100000 values") as refusal:
        load(tmp_path, "\n".join(lines))
    assert len(str(refusal.value)) < 500
    with pytest.raises(ValueError, match="expected a list|expected a name"):
        load(tmp_path, "\n".join(["name: &a0 [x]", "classes:", "  c:", "    colour: &b0 [*a0, *a0, *a0]"]))


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="'indoor' is neither a file nor one of nuscenes16, outdoor10"):
        load_class_set("indoor")


def test_the_files_are_installed(tmp_path):
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True)
    installed = {path.stem for path in (tmp_path / "tttkd_ros" / "class_sets").glob("*.yaml")}
    assert installed == set(built_in_class_sets())
