"""What cameras send, in this process; images are serialised as DDS would hand them over."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.ros.cameras import Cameras
from tttkd_ros.ros.complaints import Complaints
from tttkd_ros.ros.extrinsics import FromRig, FromTf

MILLISECOND = 10**6
SWEEP = 10 * 10**9
POINTS = np.zeros((3, 3), np.float32)


@pytest.fixture
def said():
    return []


@pytest.fixture
def make(said):
    def make(names=("left",), extrinsics=None, **options):
        extrinsics = extrinsics or FromRig({name: RigCamera(np.eye(4)) for name in names})
        options = {"tolerance_ns": 50 * MILLISECOND, "depth": 5, "wait_s": 0.0} | options
        return Cameras(names, extrinsics, "sensor_msgs/msg/Image", Complaints(said.append), **options)

    return make


@pytest.fixture
def serialised(ros):
    from rclpy.serialization import serialize_message

    return lambda stamp, **options: serialize_message(ros.image(stamp, **options))


def test_the_nearest_image_within_tolerance_becomes_a_view(make, ros, serialised):
    cameras = make()
    cameras.add_info("left", ros.info())
    for stamp in (SWEEP - 100 * MILLISECOND, SWEEP - 10 * MILLISECOND, SWEEP + 30 * MILLISECOND):
        cameras.add_image("left", serialised(stamp))
    frame = cameras.frame(SWEEP, POINTS, "lidar")
    (view,) = frame.views
    assert (frame.stamp, view.name, view.stamp) == (SWEEP, "left", SWEEP - 10 * MILLISECOND)
    sent = np.asarray(ros.image(view.stamp).data).reshape(view.image.shape)
    np.testing.assert_array_equal(view.image, sent)
    assert cameras.problems == ""


def test_a_camera_that_fails_leaves_the_others(make, ros, serialised, said):
    cameras = make(("left", "right"))
    for name in ("left", "right"):
        cameras.add_info(name, ros.info())
    cameras.add_image("right", serialised(SWEEP))
    assert [view.name for view in cameras.frame(SWEEP, POINTS, "lidar").views] == ["right"]
    assert said == ["left: not used for training: no image within 50 ms of the sweep"]
    assert cameras.problems == ""


def test_without_any_view_every_camera_says_why(make, ros, serialised):
    cameras = make(("left", "right"))
    cameras.add_image("right", serialised(SWEEP))
    assert cameras.frame(SWEEP, POINTS, "lidar").views == ()
    assert cameras.problems == "left: no image within 50 ms of the sweep; right: no usable CameraInfo yet"


def test_a_frame_waits_for_an_image_on_its_way(make, ros, serialised):
    cameras = make(wait_s=10.0)
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(SWEEP - 40 * MILLISECOND))
    late = threading.Timer(0.1, lambda: cameras.add_image("left", serialised(SWEEP)))
    late.start()
    (view,) = cameras.frame(SWEEP, POINTS, "lidar").views
    late.join()
    assert view.stamp == SWEEP


def test_a_rig_with_intrinsics_needs_no_camera_info(make, ros, serialised):
    from tttkd_ros.geometry.camera import CameraModel

    model = CameraModel.from_camera_info(ros.info())
    cameras = make(extrinsics=FromRig({"left": RigCamera(np.eye(4), model)}))
    cameras.add_image("left", serialised(SWEEP))
    assert cameras.frame(SWEEP, POINTS, "lidar").views[0].camera == model


@pytest.mark.parametrize("damage", [lambda cdr: cdr[:7], lambda cdr: cdr[:40]])
def test_a_message_cut_short_is_a_problem_and_no_exception(make, ros, serialised, said, damage):
    cameras = make()
    cameras.add_info("left", ros.info())
    cameras.add_image("left", damage(serialised(SWEEP)))
    assert cameras.frame(SWEEP, POINTS, "lidar").views == ()
    assert said


class Buffer:
    """As tf2_ros.Buffer, with one transform that comes when told to."""

    def __init__(self):
        self.known = False
        self.lookups = 0

    def can_transform(self, target, source, time):
        return self.known and (target, source) == ("camera_front_optical", "lidar")

    def lookup_transform(self, target, source, time):
        self.lookups += 1
        half = 0.5**0.5  # a quarter turn about z
        translation, rotation = SimpleNamespace(x=1.0, y=2.0, z=3.0), SimpleNamespace(x=0.0, y=0.0, z=half, w=half)
        return SimpleNamespace(transform=SimpleNamespace(translation=translation, rotation=rotation))


def test_tf_is_asked_by_the_messages_frames_until_it_knows_and_then_no_more(make, ros, serialised):
    buffer = Buffer()
    cameras = make(extrinsics=FromTf(buffer))
    cameras.add_image("left", serialised(SWEEP))
    cameras.add_info("left", ros.info())
    assert cameras.frame(SWEEP, POINTS, "lidar").views == ()
    assert cameras.problems == "left: no transform from 'lidar' to 'camera_front_optical' in TF yet"
    buffer.known = True
    for _ in range(2):
        (view,) = cameras.frame(SWEEP, POINTS, "lidar").views
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(view.camera_from_lidar, expected, atol=1e-12)
    assert buffer.lookups == 1
