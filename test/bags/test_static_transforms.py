import numpy as np
import pytest

from tttkd_ros.bags.static_transforms import StaticTransforms

IDENTITY = (0.0, 0.0, 0.0, 1.0)


def known(make, *links):
    transforms = StaticTransforms()
    transforms.add(make.transforms(*links))
    return transforms


def test_a_point_of_a_child_is_expressed_in_its_parent(make):
    transforms = known(make, ("base", "lidar", (1.0, 2.0, 3.0), IDENTITY))
    np.testing.assert_array_equal(transforms.lookup("base", "lidar") @ [0, 0, 0, 1], [1, 2, 3, 1])
    np.testing.assert_array_equal(transforms.lookup("lidar", "base") @ [0, 0, 0, 1], [-1, -2, -3, 1])


def test_siblings_are_tied_through_their_nearest_common_ancestor(make):
    transforms = known(
        make,
        ("map", "base", (100.0, 0.0, 0.0), IDENTITY),
        ("base", "lidar", (0.0, 0.0, 2.0), IDENTITY),
        ("base", "camera", (1.0, 0.0, 0.0), IDENTITY),
    )
    np.testing.assert_array_equal(transforms.lookup("camera", "lidar")[:3, 3], [-1, 0, 2])


def test_a_frame_is_tied_to_itself(make):
    np.testing.assert_array_equal(StaticTransforms().lookup("lidar", "lidar"), np.eye(4))


def test_a_leading_slash_makes_no_difference(make):
    transforms = known(make, ("/base", "lidar", (1.0, 0.0, 0.0), IDENTITY))
    assert transforms.lookup("base", "/lidar")[0, 3] == 1


def test_the_last_word_on_a_frame_holds(make):
    transforms = known(make, ("base", "lidar", (1.0, 0.0, 0.0), IDENTITY), ("base", "lidar", (2.0, 0.0, 0.0), IDENTITY))
    assert transforms.lookup("base", "lidar")[0, 3] == 2


def test_frames_that_are_not_tied_are_named_with_those_that_are(make):
    transforms = known(make, ("base", "lidar", (0.0, 0.0, 0.0), IDENTITY))
    with pytest.raises(ValueError, match="'lidar' to 'camera'; known frames: base, lidar"):
        transforms.lookup("camera", "lidar")


def test_a_circle_is_refused(make):
    transforms = known(make, ("a", "b", (1.0, 0.0, 0.0), IDENTITY), ("b", "a", (1.0, 0.0, 0.0), IDENTITY))
    with pytest.raises(ValueError, match="circle through"):
        transforms.lookup("lidar", "a")


def test_a_quaternion_of_zero_length_is_refused(make):
    with pytest.raises(ValueError, match="quaternion"):
        known(make, ("base", "lidar", (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)))


def test_a_place_holds_from_its_receipt_to_the_next_and_the_first_before_it_too(make):
    transforms = StaticTransforms()
    for received, x in ((100, 1.0), (200, 1.0), (300, 2.0), (400, 3.0)):
        transforms.add(make.transforms(("base", "lidar", (x, 0.0, 0.0), IDENTITY)), received)
    places = [transforms.lookup("base", "lidar", time)[0, 3] for time in (0, 100, 299, 300, 399, 400, 10**18)]
    assert places == [1, 1, 1, 2, 2, 3, 3]


def test_when_a_frame_got_its_place_is_told(make):
    transforms = known(make, ("base", "lidar", (1.0, 0.0, 0.0), IDENTITY))
    for received in (200, 300):
        transforms.add(make.transforms(("base", "lidar", (2.0, 0.0, 0.0), IDENTITY)), received)
    transforms.add(make.transforms(("base", "camera", (9.0, 0.0, 0.0), IDENTITY)), 400)
    assert [transforms.unchanged_since(time) for time in (0, 199, 200, 500)] == [0, 0, 200, 200]


def test_a_frame_may_get_another_parent(make):
    links = ("base", "lidar", (1.0, 0.0, 0.0), IDENTITY), ("mast", "camera", (0.0, 0.0, 0.0), IDENTITY)
    transforms = known(make, *links)
    transforms.add(make.transforms(("mast", "lidar", (5.0, 0.0, 0.0), IDENTITY)), 100)
    assert transforms.lookup("camera", "lidar", 100)[0, 3] == 5
    with pytest.raises(ValueError, match="no static transform ties"):
        transforms.lookup("camera", "lidar", 99)
