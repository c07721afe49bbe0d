"""Which CameraInfo, frame and rig entry is used for an image."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.messages.calibrated_camera import MAX_SPANS, CalibratedCamera
from tttkd_ros.messages.stamps import split

SIZE = (64, 48)


def info(stamp: int, focal: float, frame="cam", *, tx=0.0):
    sec, nanosec = split(stamp)
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame), width=64, height=48,
        k=[focal, 0, 32, 0, focal, 24, 0, 0, 1], d=[], distortion_model="plumb_bob", r=np.eye(3).ravel(),
        p=[focal, 0, 32, tx, 0, focal, 24, 0, 0, 0, 1, 0], binning_x=0, binning_y=0, roi=roi,
    )  # fmt: skip


def identity(frame: str) -> np.ndarray:
    return np.eye(4)


def focal(camera: CalibratedCamera, stamp: int, received: int = 0) -> float:
    return camera.locate(stamp, SIZE, "cam", identity, received)[0].fx


@pytest.fixture
def zooming():
    """Two focal lengths, from 100 on and from 300 on."""
    camera = CalibratedCamera()
    for stamp in (100, 200, 300, 400):
        camera.add(info(stamp, 50.0 if stamp < 300 else 70.0), received=stamp + 10)
    return camera


@pytest.mark.parametrize("stamp, expected", [(100, 50), (150, 50), (200, 50), (300, 70), (350, 70), (400, 70)])
def test_info_in_force_at_the_image_stamp_is_used(zooming, stamp, expected):
    assert focal(zooming, stamp, received=0) == expected


@pytest.mark.parametrize("stamp, received, expected", [(250, 305, 50), (250, 315, 70), (10**15, 250, 50), (7, 900, 70)])
def test_image_of_another_clock_uses_the_order_of_receipt(zooming, stamp, received, expected):
    assert focal(zooming, stamp, received) == expected


def test_image_before_the_first_info_uses_it(zooming):
    assert focal(zooming, 50, received=60) == 50


@pytest.mark.parametrize("received", [[0, 0, 0], [10, 20, 30]])
def test_infos_without_stamps_are_used_from_their_receipt(received):
    camera = CalibratedCamera()
    for time, value in zip(received, (50.0, 60.0, 70.0), strict=True):
        camera.add(info(0, value), time)
    assert focal(camera, 10**9, received[-1]) == 70
    assert focal(camera, 10**9, received[1]) == (70 if received[1] == 0 else 60)


def test_infos_from_before_a_jump_back_are_not_used(zooming):
    zooming.add(info(100, 90.0), received=500)
    assert [focal(zooming, stamp, received=600) for stamp in (100, 250, 350)] == [90, 90, 90]


def test_unusable_info_leaves_the_last_one_in_force(zooming):
    with pytest.raises(ValueError, match="fx=0.0.*the last usable one stays in force"):
        zooming.add(info(500, 0.0), received=510)
    assert focal(zooming, 500, received=520) == 70
    with pytest.raises(ValueError, match="fx=0.0.*none that can be used came yet"):
        CalibratedCamera().add(info(500, 0.0))


def test_number_of_kept_infos_is_bounded():
    camera = CalibratedCamera()
    for index in range(2 * MAX_SPANS):
        camera.add(info(index, 50.0 + index), index)
    newest = 2 * MAX_SPANS - 1
    assert focal(camera, newest) == 50 + newest
    assert focal(camera, newest - MAX_SPANS + 1) == 50 + newest - MAX_SPANS + 1
    assert len(camera._spans) == MAX_SPANS


@pytest.mark.parametrize("image_frame, info_frame, expected", [
    ("image", "info", ["image"]), ("", "info", ["info"]), ("unknown", "info", ["unknown", "info"]),
    ("same", "same", ["same"]),
])  # fmt: skip
def test_frame_of_the_image_takes_precedence_over_its_infos(image_frame, info_frame, expected):
    camera, requested = CalibratedCamera(), []
    camera.add(info(1, 50.0, info_frame))

    def frame_from_lidar(frame: str) -> np.ndarray:
        requested.append(frame)
        if frame == "unknown":
            raise ValueError("not in TF")
        return np.eye(4)

    camera.locate(1, SIZE, image_frame, frame_from_lidar)
    assert requested == expected


def test_missing_frame_id_is_refused_with_the_remedy():
    camera = CalibratedCamera()
    camera.add(info(1, 50.0, ""))
    with pytest.raises(ValueError, match="neither the image nor its CameraInfo has a frame id.*rig file"):
        camera.locate(1, SIZE, "", identity)


def test_shift_of_a_stereo_camera_is_in_its_pose():
    camera = CalibratedCamera(rectified=True)
    camera.add(info(1, 50.0, tx=-6.0))
    place = np.eye(4)
    place[:3, 3] = 1, 2, 3
    np.testing.assert_allclose(camera.locate(1, SIZE, "cam", lambda frame: place)[1][:3, 3], (0.88, 2, 3))


def never(frame: str) -> np.ndarray:
    raise AssertionError("a rig needs no frame")


@pytest.fixture
def rig():
    place = np.eye(4)
    place[0, 3] = 5.0
    return RigCamera(place, CameraModel(64, 48, 90.0, 90.0, 32.0, 24.0))


@pytest.mark.parametrize("published", [False, True])
def test_rig_intrinsics_take_precedence_over_published_ones(rig, published):
    camera = CalibratedCamera(rig, rectified=True)
    if published:
        camera.add(info(1, 50.0, tx=-6.0))
    model, place = camera.locate(1, SIZE, "cam", never)
    assert model is rig.camera and place is rig.camera_from_lidar


def test_rig_without_intrinsics_uses_the_published_ones(rig):
    camera = CalibratedCamera(RigCamera(rig.camera_from_lidar), rectified=True)
    camera.add(info(1, 50.0, tx=-6.0))
    model, place = camera.locate(1, SIZE, "cam", never)
    assert model.fx == 50 and place is rig.camera_from_lidar


def test_image_of_another_size_than_the_rigs_is_refused(rig):
    with pytest.raises(ValueError, match="image is 32x24, the rig's camera_info says 64x48.*remove it"):
        CalibratedCamera(rig).locate(1, (32, 24), "cam", never)
