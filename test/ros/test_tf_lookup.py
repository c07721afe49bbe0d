"""Transforms and poses from TF, with a buffer that answers as tf2's does."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from tttkd_ros.geometry.rig import RigCamera  # noqa: E402
from tttkd_ros.geometry.trajectory import Compensation  # noqa: E402
from tttkd_ros.messages.camera_buffer import CameraBuffer  # noqa: E402
from tttkd_ros.messages.stamps import SECOND, split  # noqa: E402
from tttkd_ros.monitoring.throttled_log import ThrottledLog  # noqa: E402
from tttkd_ros.ros import tf_lookup  # noqa: E402
from tttkd_ros.ros.camera_setup import RigExtrinsics  # noqa: E402
from tttkd_ros.ros.tf_lookup import TfPoses, TfTransforms, tf_poses  # noqa: E402

START = 1_700_000_000 * SECOND
MILLISECOND = 10**6
SPEED = 12.0  # metres per second, along x
IDENTITY = (0.0, 0.0, 0.0, 1.0)


class Buffer:
    """tf2's behaviour for one moving frame: the newest pose for time 0, none beyond the ends, those of ten seconds."""

    def __init__(self, parent="odom", frame="lidar", rotation=IDENTITY):
        self.frames = parent, frame
        self.rotation = dict(zip("xyzw", rotation, strict=True))
        self.poses: dict[int, np.ndarray] = {}
        self.lookups = 0

    def feed(self, first_ms: int, last_ms: int) -> Buffer:
        """The vehicle drives along x; its place depends on the stamp alone."""
        for stamp in range(START + first_ms * MILLISECOND, START + last_ms * MILLISECOND + 1, 20 * MILLISECOND):
            if not self.poses or stamp > max(self.poses) - 10 * SECOND:  # tf2 refuses older ones
                self.poses[stamp] = np.array([SPEED * (stamp - START) / SECOND, 0.0, 0.0])
        self.poses = {stamp: pose for stamp, pose in self.poses.items() if stamp >= max(self.poses) - 10 * SECOND}
        return self

    def clear(self) -> None:
        self.poses.clear()

    def all_frames_as_yaml(self) -> str:
        return "{}: {{parent: {}}}".format(*reversed(self.frames)) if self.poses else "[]"

    def can_transform(self, target, source, time, timeout=None, return_debug_tuple=False):
        if (target, source) != self.frames:
            known, reason = False, f'"{target}" does not exist'
        elif time.nanoseconds == 0:
            known, reason = bool(self.poses), "no data"
        else:
            known = bool(self.poses) and min(self.poses) <= time.nanoseconds <= max(self.poses)
            reason = "" if known else "Lookup would require extrapolation"
        return (known, reason) if return_debug_tuple else known

    def lookup_transform(self, target, source, time, timeout=None):
        assert self.can_transform(target, source, time), "tf2 would raise"
        self.lookups += 1
        stamp = time.nanoseconds or max(self.poses)
        stamps = sorted(self.poses)
        after = np.array(stamps) - stamps[0]  # floating-point numbers cannot hold nanoseconds since 1970
        x, y, z = (np.interp(stamp - stamps[0], after, axis) for axis in np.array([*map(self.poses.get, stamps)]).T)
        sec, nanosec = split(stamp)
        return SimpleNamespace(
            header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)),
            transform=SimpleNamespace(
                translation=SimpleNamespace(x=x, y=y, z=z), rotation=SimpleNamespace(**self.rotation)
            ),
        )


class StaticBuffer(Buffer):
    """Static transforms only: the same at any time, stamped 0."""

    def can_transform(self, target, source, time, timeout=None, return_debug_tuple=False):
        return (True, "") if return_debug_tuple else True

    def lookup_transform(self, target, source, time, timeout=None):
        self.poses = {0: np.array([3.0, 0.0, 0.0])}
        return super().lookup_transform(target, source, SimpleNamespace(nanoseconds=0))


@pytest.fixture
def buffer():
    return Buffer().feed(0, 1000)


# Extrinsics


@pytest.fixture
def camera_buffer():
    return Buffer("camera", rotation=(0.0, 0.0, 0.5**0.5, 0.5**0.5)).feed(500, 1000)


def camera_from_lidar(buffer, ms, camera="camera", lidar="lidar"):
    return TfTransforms(buffer).camera_from_lidar("left", camera, lidar, START + ms * MILLISECOND)


@pytest.mark.parametrize(("ms", "known_ms"), [(700, 700), (1300, 1000), (100, 1000)])
def test_a_transform_is_the_one_at_the_images_time_or_else_the_newest(camera_buffer, ms, known_ms):
    expected = [[0, -1, 0, SPEED * known_ms / 1000], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(camera_from_lidar(camera_buffer, ms), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("known", "asked"), [("robot1/lidar", "lidar"), ("robot1/lidar", "/lidar"), ("lidar", "robot1/lidar")]
)
def test_a_tf_prefix_may_be_missing_in_tf_or_in_the_messages(known, asked):
    found = camera_from_lidar(Buffer("camera", known).feed(0, 1000), 700, "/camera", asked)
    assert found[0, 3] == pytest.approx(SPEED * 0.7)


def test_the_last_transform_stands_in_for_a_cleared_buffer(camera_buffer):
    transforms = TfTransforms(camera_buffer)
    before = transforms.lookup("camera", "lidar", START + 700 * MILLISECOND)
    camera_buffer.clear()
    np.testing.assert_array_equal(transforms.lookup("camera", "lidar", START + 800 * MILLISECOND), before)


def test_no_transform_is_taken_from_before_a_jump_back_in_time():
    buffer = Buffer("camera").feed(90_000, 100_000)
    with pytest.raises(ValueError, match="TF is 88 s ahead of the sweep: time jumped back"):
        camera_from_lidar(buffer, 12_000)
    buffer.feed(11_000, 13_000)  # refused as too old if the buffer had not been cleared
    assert camera_from_lidar(buffer, 12_010)[0, 3] == pytest.approx(SPEED * 12.01)


def test_an_unknown_frame_is_refused(camera_buffer):
    with pytest.raises(ValueError, match="no transform from 'lidar' to 'elsewhere'"):
        camera_from_lidar(camera_buffer, 700, "elsewhere")


def test_an_invalid_rotation_is_refused():
    with pytest.raises(ValueError, match="quaternion"):
        camera_from_lidar(Buffer("camera", rotation=(0.0, 0.0, 0.0, 0.0)).feed(0, 1000), 700)


# Motion


@pytest.fixture
def driven(buffer):
    """Metres along x between two instants, in milliseconds after the start, by `TfPoses`."""
    poses = TfPoses(buffer, "odom")

    def driven(target_ms: float, source_ms: float) -> float:
        target, source = (START + round(ms * MILLISECOND) for ms in (target_ms, source_ms))
        return -poses.trajectory("lidar", (target, source)).between(target, source)[0, 3]

    return driven


def test_the_motion_between_two_stamps_is_tfs(driven):
    assert driven(550, 505) == pytest.approx(SPEED * 0.045, abs=1e-6)


def test_the_motion_beyond_the_newest_pose_is_extrapolated_at_constant_velocity(driven):
    assert driven(1060, 990) == pytest.approx(SPEED * 0.07, abs=1e-6)


def test_no_pose_is_cached(buffer, driven):
    driven(550, 505)
    before = buffer.lookups
    driven(550, 505)
    assert buffer.lookups > before


@pytest.mark.parametrize(
    ("target", "source", "reason"), [(1200, 1000, "up to 200 ms before"), (50, -30, "extrapolation")]
)
def test_a_stamp_that_tf_does_not_reach_is_refused_with_the_reason(driven, target, source, reason):
    with pytest.raises(ValueError, match=reason):
        driven(target, source)


def test_an_unknown_fixed_frame_is_refused_by_name(buffer):
    with pytest.raises(ValueError, match="TF does not know 'lidar' in 'map': .*does not exist"):
        TfPoses(buffer, "map").trajectory("lidar", (START,))


def test_a_lidar_that_is_static_in_the_fixed_frame_does_not_move():
    stamps = START + SECOND, START + 2 * SECOND
    trajectory = TfPoses(StaticBuffer(), "odom").trajectory("lidar", stamps)
    np.testing.assert_array_equal(trajectory.between(*stamps), np.eye(4))


def test_the_buffer_is_cleared_after_a_jump_back(buffer, driven):
    buffer.feed(60_000, 61_000)
    with pytest.raises(ValueError, match="TF is 60 s ahead of the sweep: time jumped back"):
        driven(550, 505)
    buffer.feed(0, 1000)
    assert driven(550, 505) == pytest.approx(SPEED * 0.045, abs=1e-6)


def test_a_step_that_lags_behind_does_not_clear_the_buffer(buffer, driven):
    buffer.feed(1000, 8000)
    assert driven(550, 505) == pytest.approx(SPEED * 0.045, abs=1e-6)
    assert len(buffer.poses) > 300


@pytest.mark.parametrize(
    ("buffer", "fixed_frame", "line"),
    [(Buffer(), "", "motion: off: parameter 'motion.fixed_frame' is empty"),
     (None, "odom", "motion: off: this ROS has no tf2_ros to look up 'odom'"),
     (Buffer(), "odom", "motion: points are projected at the image's time if TF has the motion in 'odom'")],
)
def test_the_log_says_whether_motion_is_compensated(buffer, fixed_frame, line):
    log = []
    assert (tf_poses(buffer, fixed_frame, log.append) is None) == ("off" in line)
    assert log[0].startswith(line)


@pytest.fixture
def make_cameras(ros):
    """`make_cameras(compensation)`: a camera that looks along the LiDAR's x, its one image 40 ms after the sweep."""
    from rclpy.serialization import serialize_message

    forward = np.eye(4)
    forward[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]

    def make(compensation: Compensation) -> CameraBuffer:
        cameras = CameraBuffer(
            ("front",), RigExtrinsics({"front": RigCamera(forward)}), "sensor_msgs/msg/Image", ThrottledLog(print).warn,
            tolerance_ns=50 * MILLISECOND, depth=5, wait_s=0.0, compensation=compensation,
        )
        cameras.add_info("front", ros.info())
        cameras.add_image("front", serialize_message(ros.image(START + 540 * MILLISECOND)))
        return cameras

    return make


def test_a_rigs_camera_moves_with_the_vehicle(make_cameras, buffer):
    cameras = make_cameras(Compensation(TfPoses(buffer, "odom").trajectory))
    sweep = cameras.add_sweep(START + 500 * MILLISECOND)
    points = np.array([[10, 0, 0], [10, 0, 0]], np.float32)
    frame = cameras.frame(sweep, points, "lidar", times=lambda: np.array([0.0, 0.05]))
    np.testing.assert_allclose(frame.views[0].camera_from_lidar[:3, 3], (0, 0, -SPEED * 0.04), atol=1e-6)
    np.testing.assert_array_equal(frame.points, points)
    np.testing.assert_allclose(frame.projectable, points + [[0, 0, 0], [SPEED * 0.05, 0, 0]], atol=1e-3)


def test_without_odometry_the_view_is_used_as_it_is(make_cameras, buffer):
    log = []
    buffer.clear()
    cameras = make_cameras(Compensation(TfPoses(buffer, "odom").trajectory, log.append))
    frame = cameras.frame(cameras.add_sweep(START + 500 * MILLISECOND), np.zeros((1, 3), np.float32), "lidar")
    assert frame.views[0].camera_from_lidar[:3, 3].tolist() == [0, 0, 0]
    assert log == ["projected at the cloud's time, not the image's: TF does not know 'lidar' in 'odom': no data"]


# Listening, with a stand-in for tf2_ros


class ListeningNode:
    def __init__(self):
        self.has = set()

    def destroy_service(self, service):
        self.has.remove(service)


class Tf2Buffer:
    """Jazzy's, which the clock calls when time jumps."""

    def __init__(self, node):
        self.srv = "tf2_frames"
        self.jump_handle = SimpleNamespace(unregister=lambda: node.has.remove("jumps"))
        node.has |= {self.srv, "jumps"}


class HumbleTf2Buffer:
    def __init__(self, node):
        self.srv = "tf2_frames"
        node.has.add(self.srv)


class TransformListener:
    def __init__(self, buffer, node):
        self._node = node
        node.has.update(("/tf", "/tf_static"))

    def unregister(self):
        self._node.has -= {"/tf", "/tf_static"}


@pytest.mark.parametrize("buffer", [Tf2Buffer, HumbleTf2Buffer])
def test_closing_removes_from_the_node_all_that_was_added(monkeypatch, buffer):
    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformListener = buffer, TransformListener
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    monkeypatch.setattr(tf_lookup, "find_spec", lambda name: object())
    node = ListeningNode()
    listener = tf_lookup.listen_to_tf(node)
    assert {"/tf", "/tf_static", "tf2_frames"} <= node.has
    listener.close()
    assert node.has == set()


def test_without_tf2_ros_there_is_no_listener(monkeypatch):
    monkeypatch.setattr(tf_lookup, "find_spec", lambda name: None)
    assert tf_lookup.listen_to_tf(ListeningNode()) is None
