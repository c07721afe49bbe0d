import numpy as np
import pytest

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
