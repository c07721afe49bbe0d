import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR, UNLABELLED, ClassSet, built_in_class_sets, load_class_set
from tttkd_ros.datasets.class_maps import SEMANTIC_KITTI_IDS, WAYMO_IDS, ClassMap

# The names of the index column of nuScenes-lidarseg's category.json, and of A2D2's class_list.json.
NUSCENES = (
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation", "vehicle.ego",
)  # fmt: skip
A2D2 = (
    *(f"{name} {number}" for name, count in (
        ("Car", 4), ("Bicycle", 4), ("Pedestrian", 3), ("Truck", 3), ("Small vehicles", 3), ("Traffic signal", 3),
        ("Traffic sign", 3), ("Utility vehicle", 2)) for number in range(1, count + 1)),
    "Sidebars", "Speed bumper", "Curbstone", "Solid line", "Irrelevant signs", "Road blocks", "Tractor",
    "Non-drivable street", "Zebra crossing", "Obstacles / trash", "Poles", "RD restricted area", "Animals",
    "Grid structure", "Signal corpus", "Drivable cobblestone", "Electronic traffic", "Slow drive area",
    "Nature object", "Parking area", "Sidewalk", "Ego car", "Painted driv. instr.", "Traffic guide obj.",
    "Dashed line", "RD normal street", "Sky", "Buildings", "Blurred area", "Rain dirt",
)  # fmt: skip
RAW = {"semantickitti": SEMANTIC_KITTI_IDS, "nuscenes": dict(enumerate(NUSCENES)), "a2d2": dict(enumerate(A2D2)),
       "waymo": WAYMO_IDS}
SECTIONS = {"outdoor10": set(RAW), "semantickitti19": {"semantickitti"}, "nuscenes16": {"nuscenes"},
            "waymo22": {"waymo"}}
CASES = [(name, section) for name in built_in_class_sets() for section in sorted(SECTIONS[name])]
STREET = ClassSet("street2", ("car", "ground"), ((0, 0, 0), (1, 1, 1)), {"outdoor10": {"car": "car", "road": "ground"}},
                  {"outdoor10": OUTDOOR.names[1:4] + OUTDOOR.names[5:]})


def class_of(name, section, raw):
    """The name of the class that an id of a data set becomes; None if it becomes unlabelled."""
    class_set = load_class_set(name)
    label = int(ClassMap(RAW[section], section, class_set)(np.array([raw]))[0])
    return None if label == UNLABELLED else class_set.names[label]


@pytest.mark.parametrize(("name", "section"), CASES)
def test_a_built_in_set_covers_every_class_of_its_data_sets_and_no_other(name, section):
    class_set = load_class_set(name)
    assert set(class_set.groups) == SECTIONS[name] >= set(class_set.ignored)
    listed = {*class_set.groups[section], *class_set.ignored.get(section, ())}
    assert listed == set(RAW[section].values())


@pytest.mark.parametrize(
    ("name", "section"), [case for case in CASES if case[0] != "outdoor10"] + [("outdoor10", "semantickitti")]
)
def test_each_class_of_a_benchmark_occurs(name, section):
    assert set(load_class_set(name).groups[section].values()) == set(load_class_set(name).names)


@pytest.mark.parametrize(
    ("ids", "name"),
    [
        ((10, 252), "car"), ((18, 258), "truck"), ((11, 15, 31, 32, 253, 255), "bike"), ((30, 254), "person"),
        ((40, 60), "road"), ((44,), "parking"), ((48,), "sidewalk"), ((50,), "building"), ((70, 71, 72), "nature"),
        ((51, 80, 81, 99), "other-objects"), ((0, 1, 13, 16, 20, 49, 52, 256, 257, 259), None),
    ],
)  # fmt: skip
def test_semantickitti_becomes_the_outdoor_classes_of_xmuda(ids, name):
    assert {class_of("outdoor10", "semantickitti", raw) for raw in ids} == {name}


@pytest.mark.parametrize(
    ("ids", "name"),
    [
        ((17,), "car"), ((23,), "truck"), ((14, 21), "bike"), ((2, 3, 4, 6), "person"), ((24,), "road"),
        ((26,), "sidewalk"), ((28,), "building"), ((27, 30), "nature"), ((1, 9, 10, 11, 12), "other-objects"),
        ((0, 5, 7, 8, 13, 15, 16, 18, 19, 20, 22, 25, 29, 31), None),
    ],
)  # fmt: skip
def test_nuscenes_becomes_the_outdoor_classes(ids, name):
    assert {class_of("outdoor10", "nuscenes", raw) for raw in ids} == {name}


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("Car 4", "car"), ("Ego car", "car"), ("Small vehicles 3", "bike"), ("Zebra crossing", "road"),
        ("Slow drive area", "road"), ("Curbstone", "sidewalk"), ("Parking area", "parking"), ("Buildings", "building"),
        ("Obstacles / trash", "other-objects"), ("Traffic signal 3", "other-objects"), ("Nature object", "nature"),
        ("Truck 2", "truck"), ("Pedestrian 3", "person"), ("Sky", None), ("Utility vehicle 1", None), ("Tractor", None),
        ("Irrelevant signs", None), ("Non-drivable street", None),
    ],
)
def test_a2d2_becomes_the_outdoor_classes_of_xmuda(raw, name):
    assert class_of("outdoor10", "a2d2", A2D2.index(raw)) == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (0, None), (1, None), (11, "bicycle"), (252, "car"), (13, "other-vehicle"), (16, "other-vehicle"),
        (257, "other-vehicle"), (255, "motorcyclist"), (52, None), (60, "road"), (99, None), (81, "traffic-sign"),
    ],
)
def test_semantickitti_becomes_the_classes_of_its_benchmark(raw, name):
    """By learning_map of the data set's configuration."""
    assert class_of("semantickitti19", "semantickitti", raw) == name


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ("vehicle.bus.bendy", 2), ("vehicle.construction", 4), ("flat.other", 11), ("animal", UNLABELLED),
        ("vehicle.emergency.police", UNLABELLED), ("static.vegetation", 15), ("noise", UNLABELLED),
    ],
)
def test_nuscenes_becomes_the_classes_of_its_challenge(raw, label):
    """The challenge counts from 1, because 0 is ignored."""
    ids = np.array([NUSCENES.index(raw)])
    assert ClassMap(RAW["nuscenes"], "nuscenes", load_class_set("nuscenes16"))(ids).tolist() == [label]


def test_waymos_ids_count_from_one():
    labels = ClassMap(WAYMO_IDS, "waymo", load_class_set("waymo22"))(np.arange(23))
    assert labels.tolist() == [UNLABELLED, *range(22)]


def test_the_set_in_the_documentation_covers_what_it_lists(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (tmp_path / "street5.yaml").write_text(re.search(r"```yaml\n(name: street5.*?)```", text, re.DOTALL)[1])
    street = load_class_set(tmp_path / "street5.yaml")
    assert street.names == ("vehicle", "person", "ground", "building", "nature")
    assert ClassMap(SEMANTIC_KITTI_IDS, "semantickitti", street)(np.array([13, 51])).tolist() == [0, UNLABELLED]
    assert ClassMap.between(OUTDOOR, street)(np.array([2, 5])).tolist() == [UNLABELLED, 2]


def test_a_class_that_a_set_neither_maps_nor_ignores_is_named():
    groups = {section: dict(group) for section, group in OUTDOOR.groups.items()}
    del groups["semantickitti"]["fence"]
    with pytest.raises(ValueError, match="'outdoor10' says nothing of semantickitti's 'fence': map it or list it"):
        ClassMap(SEMANTIC_KITTI_IDS, "semantickitti", replace(OUTDOOR, groups=groups))


def test_a_set_without_the_data_set_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="'nuscenes16' says nothing of 'a2d2', only of nuscenes: .*outdoor10.*'from'"):
        ClassMap({1: "Car 1"}, "a2d2", load_class_set("nuscenes16"))


def test_an_unknown_id_is_refused_or_unlabelled():
    with pytest.raises(ValueError, match="label 7 is not one of the data set's 34"):
        ClassMap(SEMANTIC_KITTI_IDS, "semantickitti", OUTDOOR)(np.array([10, 7]))
    loose = ClassMap({10: "Car 1"}, "a2d2", OUTDOOR, strict=False)
    assert loose(np.array([10, 7, 99])).tolist() == [0, UNLABELLED, UNLABELLED]


def test_ids_may_have_any_integer_type():
    class_map = ClassMap({0: "noise", 31: "vehicle.car"}, "nuscenes", OUTDOOR)
    assert class_map(np.array([31, 0], np.uint8)).tolist() == [0, UNLABELLED]
    assert class_map(np.zeros(0, np.uint32)).shape == (0,)


def test_labels_of_one_set_become_those_of_another():
    class_map = ClassMap.between(OUTDOOR, STREET)
    assert class_map(np.array([0, 1, 4, 9, UNLABELLED], np.uint8)).tolist() == [0, UNLABELLED, 1] + [UNLABELLED] * 2
    with pytest.raises(ValueError, match="label 10 is not one of"):
        class_map(np.array([10]))


def test_labels_of_the_same_classes_stay():
    labels = np.array([*range(10), UNLABELLED], np.uint8)
    assert ClassMap.between(OUTDOOR, replace(OUTDOOR, name="mine"))(labels).tolist() == labels.tolist()


@pytest.mark.parametrize(("source", "target"), [(STREET, OUTDOOR), (replace(OUTDOOR, name="other"), STREET)])
def test_labels_of_a_set_that_is_not_listed_are_refused(source, target):
    with pytest.raises(ValueError, match=f"'{target.name}' says nothing of '{source.name}'"):
        ClassMap.between(source, target)
