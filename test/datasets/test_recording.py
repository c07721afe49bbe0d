import numpy as np
import pytest

from tttkd_ros.datasets.recording import RecordedSweep
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel

POINTS = np.zeros((2, 3), np.float32)
INFINITE = np.full((4, 4), np.inf)


def test_a_camera_without_a_finite_transform_is_refused():
    view = View("camera_front", 7, np.zeros((6, 8, 3), np.uint8), CameraModel(8, 6, 5.0, 5.0, 4.0, 3.0), INFINITE)
    with pytest.raises(ValueError, match="sweep 7: the transform of camera_front is not finite"):
        RecordedSweep(Frame(7, POINTS, (view,)))


def test_a_pose_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="sweep 7: the LiDAR's pose at 8 is not finite"):
        RecordedSweep(Frame(7, POINTS), poses=[(7, np.eye(4)), (8, INFINITE)])
