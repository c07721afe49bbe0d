from dataclasses import replace

import numpy as np
import pytest

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.evaluation.drives import BagDrive, OtherImages, Shifted
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.projection import project

CAMERA = CameraModel(width=8, height=6, fx=4.0, fy=4.0, cx=4.0, cy=3.0)
# Looking along the LiDAR's x axis: camera x = -y, y = -z, z = x.
FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def drive(sweeps):
    points = np.array([[5, 0, 0], [5, 1, -1], [-5, 0, 0]], np.float32)
    return [
        Frame(stamp, points, (View("camera", stamp, np.full((6, 8, 3), stamp, np.uint8), CAMERA, FORWARD),))
        for stamp in range(sweeps)
    ]


@pytest.mark.parametrize("sweeps", [6, 7])
def test_other_images_come_from_half_the_drive_away_and_nothing_else_changes(sweeps):
    frames = drive(sweeps)
    swapped = list(OtherImages(frames))
    donors = [int(frame.views[0].image[0, 0, 0]) for frame in swapped]
    assert donors == [(index + sweeps // 2) % sweeps for index in range(sweeps)]
    assert [frame.stamp for frame in swapped] == [frame.views[0].stamp for frame in swapped] == list(range(sweeps))


def test_a_shifted_cloud_is_higher_and_still_falls_on_the_same_pixels():
    import torch

    original, shifted = drive(1)[0], next(iter(Shifted(drive(1), 0.7)))
    np.testing.assert_allclose(shifted.points - original.points, np.tile([0, 0, 0.7], (3, 1)), atol=1e-6)
    before, after = (
        project(torch.from_numpy(frame.points), CAMERA, frame.views[0].camera_from_lidar)
        for frame in (original, shifted)
    )
    assert before.visible.tolist() == after.visible.tolist()
    np.testing.assert_allclose(before.pixels[:2], after.pixels[:2], atol=1e-4)


def test_a_limit_must_leave_a_sweep(tmp_path):
    with pytest.raises(ValueError, match="limit is 0"):
        BagDrive(tmp_path, limit=0)


@pytest.fixture
def bag(tmp_path):
    """`bag(**changes)`: three sweeps with an image and truth each."""

    def write(**changes):
        frames = [replace(frame, stamp=10**18 + frame.stamp, labels=np.zeros(3, np.uint8)) for frame in drive(3)]
        with BagWriter(tmp_path / "bag") as writer:
            for frame in frames:
                views = tuple(replace(view, stamp=frame.stamp) for view in frame.views)
                writer.write_frame(replace(replace(frame, views=views), **changes))
        return tmp_path / "bag"

    return write


def test_a_bag_drive_says_what_it_can_be_used_for(bag):
    found = BagDrive(bag())
    assert (found.cameras, found.unusable, found.truth, found.damage) == (
        ("camera",), {}, "/truth/points_labeled", None
    )


def test_a_bag_without_camera_or_truth_is_a_drive(bag):
    found = BagDrive(bag(views=(), labels=None))
    assert found.cameras == () and found.truth is None
    assert [(frame.views, frame.labels) for frame in found] == [((), None)] * 3


def test_topics_and_cameras_are_passed_to_the_reader(bag):
    path = bag()
    assert BagDrive(path, cameras=()).cameras == ()
    assert BagDrive(path, points_topic="/truth/points_labeled").truth is not None
    for option in ({"points_topic": "/none"}, {"truth_topic": "/none"}, {"cameras": ("none",)}):
        with pytest.raises(ValueError, match="none"):
            BagDrive(path, **option)


def test_label_files_are_the_truth(bag, tmp_path):
    (tmp_path / "labels").mkdir()
    for index in range(3):
        np.array([40, 10, 0], "<u4").tofile(tmp_path / "labels" / f"{index:06}.label")
    path = bag()
    found = BagDrive(path, labels=tmp_path / "labels", limit=2)
    assert [frame.labels.tolist() for frame in found] == [[4, 0, 255]] * 2
    assert found.truth == str(tmp_path / "labels") and len(found) == 2
    (tmp_path / "labels" / "000001.label").unlink()
    with pytest.raises(ValueError, match="labels of 2 sweeps, but the bag has 3"):
        BagDrive(path, labels=tmp_path / "labels")


def test_a_bag_that_was_cut_short_is_a_drive_up_to_the_cut(bag):
    path = bag()
    (file,) = path.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 3])
    found = BagDrive(path)
    assert len(list(found)) == len(found) == 3 and "mcap recover" in found.damage
