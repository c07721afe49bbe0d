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
def test_semantickitti_moving_or_not_is_of_one_class(ids, name):
    assert set(semantic_kitti_classes(np.array(ids)).tolist()) == {OUTDOOR.names.index(name)}


def test_semantickitti_classes_without_a_counterpart_are_unlabelled():
    ignored = np.array([0, 1, 13, 16, 20, 49, 52, 256, 257, 259])
    assert (semantic_kitti_classes(ignored) == UNLABELLED).all()


def test_an_id_that_the_data_set_does_not_have_is_refused():
    with pytest.raises(ValueError, match="label 7 stands for nothing"):
        semantic_kitti_classes(np.array([10, 7]))


def test_ids_are_looked_up_whatever_their_integer_type():
    both = ClassMap({0: "noise", 31: "vehicle.car"}, NUSCENES)
    assert both(np.array([31, 0], np.uint8)).tolist() == [0, UNLABELLED]


def test_no_points_have_no_classes():
    assert semantic_kitti_classes(np.zeros(0, np.uint32)).shape == (0,)
