"""Where the cameras sit: by a rig file, or by TF."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.messages.stamps import SECOND, split
from tttkd_ros.ros.extrinsics import FromRig, FromTf, extrinsics


class Buffer:
    """As tf2_ros.Buffer, with one transform, known from `first` to `last` (nanoseconds), which moves along x: a metre a
    nanosecond, from 0 at every full second."""

    def __init__(self, rotation=(0.0, 0.0, 0.5**0.5, 0.5**0.5), first=0, last=1000, lidar="lidar"):
        self.rotation, self.first, self.last, self.lidar = rotation, first, last, lidar

    def all_frames_as_yaml(self):
        return f"camera: {{parent: base}}\n{self.lidar}: {{parent: base}}" if self.last > 0 else "[]"

    def can_transform(self, target, source, time):
        known = time.nanoseconds == 0 or self.first <= time.nanoseconds <= self.last
        return (target, source) == ("camera", self.lidar) and known and self.last > 0

    def lookup_transform(self, target, source, time):
        assert self.can_transform(target, source, time)
        stamp = time.nanoseconds or self.last
        sec, nanosec = split(stamp)
        return SimpleNamespace(
            header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)),
            transform=SimpleNamespace(
                translation=SimpleNamespace(x=float(stamp % SECOND), y=2.0, z=3.0),
                rotation=SimpleNamespace(**dict(zip("xyzw", self.rotation, strict=True))),
            ),
        )

    def clear(self):
        self.last = 0


LEFT = {"left": "/left/image"}


@pytest.fixture
def rig():
    return {"left": RigCamera(np.eye(4)), "rear": RigCamera(np.eye(4), topic="/back/image_raw")}


def test_a_rig_goes_before_tf(rig):
    assert extrinsics(LEFT, rig, Buffer()).rig("left") is rig["left"]


def test_a_rigs_entry_may_belong_to_a_camera_by_its_topic(rig):
    assert extrinsics({"behind": "/back/image_raw/compressed"}, rig, None).rig("behind") is rig["rear"]


@pytest.mark.parametrize(
    "name, topic", [("right", "/right/image"), ("front", "/front/image_raw"), ("a/b", "/a/b/image")]
)
def test_a_rig_that_lacks_a_camera_is_refused_with_those_it_has(rig, name, topic):
    with pytest.raises(ValueError, match=f"has no camera {name} .{topic}.; it has left, rear"):
        extrinsics(LEFT | {name: topic}, rig, None)


def test_neither_rig_nor_tf_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no rig file given .*no tf2_ros .*name a rig file"):
        extrinsics(LEFT, None, None)


def test_no_camera_needs_neither():
    assert isinstance(extrinsics({}, None, None), FromRig)


@pytest.mark.parametrize(
    "known, asked", [("robot1/lidar", "lidar"), ("robot1/lidar", "/lidar"), ("lidar", "robot1/lidar")]
)
def test_a_tf_prefix_may_stand_in_tf_or_in_the_messages_alone(known, asked):
    found = FromTf(Buffer(lidar=known)).camera_from_lidar("left", "/camera", asked, 700)
    assert found[0, 3] == 700


@pytest.mark.parametrize(("stamp", "x"), [(700, 700), (1300, 1000), (100, 1000)])
def test_tf_is_asked_for_the_images_time_and_else_for_the_newest(stamp, x):
    found = extrinsics(LEFT, None, Buffer(first=500)).camera_from_lidar("left", "camera", "lidar", stamp)
    np.testing.assert_allclose(found, [[0, -1, 0, x], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]], atol=1e-12)


def test_what_tf_has_forgotten_is_as_it_was_last():
    buffer = Buffer()
    found = FromTf(buffer)
    before = found.camera_from_lidar("left", "camera", "lidar", 700)
    buffer.clear()
    np.testing.assert_array_equal(found.camera_from_lidar("left", "camera", "lidar", 800), before)


def test_no_pose_is_taken_from_before_a_jump_back_in_time():
    buffer = Buffer(first=90 * SECOND, last=100 * SECOND)
    found = FromTf(buffer)
    with pytest.raises(ValueError, match="TF is 88 s ahead of the sweep: time jumped back"):
        found.camera_from_lidar("left", "camera", "lidar", 12 * SECOND)
    assert buffer.last == 0
    buffer.first, buffer.last = 11 * SECOND, 13 * SECOND  # cleared, it takes what comes
    assert found.camera_from_lidar("left", "camera", "lidar", 12 * SECOND + 7)[0, 3] == 7


def test_what_tf_does_not_know_is_refused():
    with pytest.raises(ValueError, match="no transform from 'lidar' to 'elsewhere'"):
        FromTf(Buffer()).camera_from_lidar("left", "elsewhere", "lidar", 5)


def test_a_rotation_that_is_none_is_refused():
    with pytest.raises(ValueError, match="quaternion"):
        FromTf(Buffer(rotation=(0.0, 0.0, 0.0, 0.0))).camera_from_lidar("left", "camera", "lidar", 5)
