import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.datasets.class_maps import A2D2, NUSCENES, SEMANTIC_KITTI, ClassMap, semantic_kitti_classes


@pytest.mark.parametrize("groups", [SEMANTIC_KITTI, A2D2, NUSCENES])
def test_every_group_is_an_outdoor_class_and_no_name_is_in_two(groups):
    assert set(groups) <= set(OUTDOOR.names)
    names = [name for group in groups.values() for name in group]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("ids", "name"),
    [
        ((10, 252), "car"), ((18, 258), "truck"), ((11, 15, 31, 32, 253, 255), "bike"), ((30, 254), "person"),
        ((40, 60), "road"), ((44,), "parking"), ((48,), "sidewalk"), ((50,), "building"), ((70, 71, 72), "nature"),
        ((51, 80, 81, 99), "other-objects"),
    ],
)  # fmt: skip
def test_semantickitti_maps_moving_objects_like_others(ids, name):
    assert set(semantic_kitti_classes(np.array(ids)).tolist()) == {OUTDOOR.names.index(name)}


def test_other_semantickitti_classes_are_unlabelled():
    others = np.array([0, 1, 13, 16, 20, 49, 52, 256, 257, 259])
    assert (semantic_kitti_classes(others) == UNLABELLED).all()


def test_an_unknown_id_is_refused_or_unlabelled():
    with pytest.raises(ValueError, match="label 7 is not one of the data set's 34"):
        semantic_kitti_classes(np.array([10, 7]))
    assert ClassMap({10: "Car 1"}, A2D2, strict=False)(np.array([10, 7, 99])).tolist() == [0, UNLABELLED, UNLABELLED]


def test_ids_may_have_any_integer_type():
    class_map = ClassMap({0: "noise", 31: "vehicle.car"}, NUSCENES)
    assert class_map(np.array([31, 0], np.uint8)).tolist() == [0, UNLABELLED]


def test_no_points_have_no_classes():
    assert semantic_kitti_classes(np.zeros(0, np.uint32)).shape == (0,)
