import numpy as np
import pytest

from tttkd_ros.simulation.drive import frames

KINDS = ("yaw 5 deg", "pitch 5 deg", "roll 5 deg", "other images", "frozen image", "noise", "covered lens")


@pytest.fixture(scope="module")
def drive():
    return list(frames("kitti", 1, 6))


@pytest.fixture(scope="module")
def Hostile(load_benchmark):  # noqa: N802 (a class)
    module = load_benchmark("hostile")
    assert tuple(module.KINDS) == KINDS
    return module.Hostile


def differing(before, after):
    """Numbers of the sweeps whose view changed."""
    views = [(a.views[0], b.views[0]) for a, b in zip(before, after, strict=True)]
    return [
        number for number, (a, b) in enumerate(views)
        if not np.array_equal(a.image, b.image) or not np.allclose(a.camera_from_lidar, b.camera_from_lidar)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_views_change_and_only_for_a_while(drive, Hostile, kind):
    hostile = list(Hostile(drive, kind, 2, 4))
    assert differing(drive, hostile) == [2, 3]
    for before, after in zip(drive, hostile, strict=True):
        assert after.stamp == before.stamp
        assert after.points is before.points and after.labels is before.labels


def test_wrong_extrinsics_are_wrong_by_five_degrees(drive, Hostile):
    before, after = drive[2].views[0], list(Hostile(drive, "yaw 5 deg", 2, 4))[2].views[0]
    rotation = after.camera_from_lidar[:3, :3] @ before.camera_from_lidar[:3, :3].T
    assert np.rad2deg(np.arccos((np.trace(rotation) - 1) / 2)) == pytest.approx(5)


def test_a_frozen_image_is_the_last_good_one(drive, Hostile):
    hostile = list(Hostile(drive, "frozen image", 2, 5))
    assert all(np.array_equal(hostile[number].views[0].image, drive[1].views[0].image) for number in (2, 3, 4))
    assert [frame.views[0].stamp for frame in hostile] == [frame.views[0].stamp for frame in drive]


def test_an_unknown_kind_and_sweeps_outside_the_drive_are_refused(drive, Hostile):
    with pytest.raises(ValueError, match="'fog', expected one of yaw"):
        Hostile(drive, "fog", 0, 2)
    with pytest.raises(ValueError, match="sweeps 4 to 9 are not within the drive's 6"):
        Hostile(drive, "noise", 4, 9)
