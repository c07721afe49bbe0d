"""Where the cameras sit: by a rig file, or by TF."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.ros.extrinsics import FromRig, FromTf, extrinsics


class Buffer:
    """As tf2_ros.Buffer, with one transform."""

    def __init__(self, translation=(1.0, 2.0, 3.0), rotation=(0.0, 0.0, 0.5**0.5, 0.5**0.5)):
        self.lookups = 0
        self._transform = SimpleNamespace(
            translation=SimpleNamespace(**dict(zip("xyz", translation, strict=True))),
            rotation=SimpleNamespace(**dict(zip("xyzw", rotation, strict=True))),
        )

    def can_transform(self, target, source, time):
        return (target, source) == ("camera", "lidar")

    def lookup_transform(self, target, source, time):
        self.lookups += 1
        return SimpleNamespace(transform=self._transform)


@pytest.fixture
def rig(tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text("cameras: {left: {camera_from_lidar: {translation: [1, 2, 3], rotation: [0, 0, 0, 1]}}}")
    return str(path)


def test_a_rig_goes_before_tf(rig):
    found = extrinsics(("left",), rig, Buffer())
    assert found.camera_from_lidar("left", "whatever", "the frames are called")[:3, 3].tolist() == [1, 2, 3]


def test_a_rig_that_lacks_a_camera_is_refused_with_those_it_has(rig):
    with pytest.raises(ValueError, match="has no camera right; it has left"):
        extrinsics(("left", "right"), rig, None)


def test_neither_rig_nor_tf_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no rig file given .*no tf2_ros .*name a rig file"):
        extrinsics(("left",), "", None)


def test_no_camera_needs_neither():
    assert isinstance(extrinsics((), "", None), FromRig)


def test_tf_is_asked_once_for_what_does_not_move():
    buffer = Buffer()
    found = extrinsics(("left",), "", buffer)
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    for _ in range(2):
        np.testing.assert_allclose(found.camera_from_lidar("left", "camera", "lidar"), expected, atol=1e-12)
    assert buffer.lookups == 1


@pytest.mark.parametrize(
    ("frame", "reason"), [("", "no CameraInfo yet"), ("elsewhere", "no transform from 'lidar' to 'elsewhere'")]
)
def test_what_tf_does_not_know_is_refused(frame, reason):
    with pytest.raises(ValueError, match=reason):
        FromTf(Buffer()).camera_from_lidar("left", frame, "lidar")


def test_a_rotation_that_is_none_is_refused():
    with pytest.raises(ValueError, match="quaternion"):
        FromTf(Buffer(rotation=(0.0, 0.0, 0.0, 0.0))).camera_from_lidar("left", "camera", "lidar")
