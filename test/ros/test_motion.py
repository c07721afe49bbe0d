"""TF's answers as the vehicle's motion, by a buffer that answers as tf2's does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.geometry.compensation import Compensation
from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.messages.camera_buffer import Cameras
from tttkd_ros.messages.stamps import SECOND, split
from tttkd_ros.ros.extrinsics import FromRig
from tttkd_ros.ros.motion import TfPoses, odometry
from tttkd_ros.ros.throttled_log import ThrottledLog

START = 1_700_000_000 * SECOND
MILLISECOND = 10**6
SPEED = 12.0


class Buffer:
    """tf2's behaviour for one moving frame: no answer beyond its ends, the newest for time 0, poses of the last ten
    seconds; what is older than those it refuses.
    """

    def __init__(self, fixed: str = "odom", frame: str = "lidar"):
        self.frames = fixed, frame
        self.poses: dict[int, np.ndarray] = {}
        self.lookups = 0

    def feed(self, stamps) -> None:
        """The vehicle drives along x; where it is depends on the stamp alone."""
        for stamp in stamps:
            if not self.poses or stamp > max(self.poses) - 10 * SECOND:
                self.poses[stamp] = np.array([SPEED * (stamp - START) / SECOND, 0.0, 0.0])
        kept = max(self.poses) - 10 * SECOND
        self.poses = {stamp: pose for stamp, pose in self.poses.items() if stamp >= kept}

    def clear(self) -> None:
        self.poses.clear()

    def all_frames_as_yaml(self) -> str:
        return "lidar: {parent: odom}" if self.poses else "[]"

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
        after = np.array(stamps) - stamps[0]  # floating-point numbers hold no nanoseconds since 1970
        x, y, z = (np.interp(stamp - stamps[0], after, axis) for axis in np.array([*map(self.poses.get, stamps)]).T)
        sec, nanosec = split(stamp)
        return SimpleNamespace(
            header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec)),
            transform=SimpleNamespace(
                translation=SimpleNamespace(x=x, y=y, z=z), rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
            ),
        )


def stamps(first_ms: int, last_ms: int, step_ms: int = 20) -> list[int]:
    return [START + ms * MILLISECOND for ms in range(first_ms, last_ms + 1, step_ms)]


@pytest.fixture
def buffer():
    made = Buffer()
    made.feed(stamps(0, 1000))
    return made


@pytest.fixture
def driven(buffer):
    """Metres along x between two instants, in milliseconds after the start, as `TfPoses` knows them."""
    poses = TfPoses(buffer, "odom")

    def driven(target_ms: float, source_ms: float) -> float:
        target, source = (START + round(ms * MILLISECOND) for ms in (target_ms, source_ms))
        return -poses.trajectory("lidar", (target, source)).between(target, source)[0, 3]

    return driven


def test_the_motion_between_two_stamps_is_tfs(driven):
    assert driven(550, 505) == pytest.approx(SPEED * 0.045, abs=1e-6)


def test_an_image_just_ahead_of_odometry_is_reached_at_constant_velocity(driven):
    assert driven(1060, 990) == pytest.approx(SPEED * 0.07, abs=1e-6)


def test_the_pose_of_an_instant_is_asked_anew_each_time(buffer, driven):
    driven(550, 505)
    before = buffer.lookups
    driven(550, 505)
    assert buffer.lookups > before


@pytest.mark.parametrize(
    ("target", "source", "reason"),
    [(1200, 1000, "up to 200 ms before"), (50, -30, "extrapolation")],
)
def test_what_tf_does_not_reach_is_refused_with_the_reason(driven, target, source, reason):
    with pytest.raises(ValueError, match=reason):
        driven(target, source)


def test_an_unknown_frame_is_refused_by_name(buffer):
    with pytest.raises(ValueError, match="TF does not know 'lidar' in 'map': .*does not exist"):
        TfPoses(buffer, "map").trajectory("lidar", (START,))


class Static(Buffer):
    """As tf2 over static transforms only: the same at any time, stamped 0."""

    def can_transform(self, target, source, time, timeout=None, return_debug_tuple=False):
        return (True, "") if return_debug_tuple else True

    def lookup_transform(self, target, source, time, timeout=None):
        self.poses = {0: np.array([3.0, 0.0, 0.0])}
        return super().lookup_transform(target, source, SimpleNamespace(nanoseconds=0))


def test_a_lidar_that_is_tied_to_the_fixed_frame_for_good_stands():
    asked = START + SECOND, START + 2 * SECOND
    np.testing.assert_array_equal(TfPoses(Static(), "odom").trajectory("lidar", asked).between(*asked), np.eye(4))


def test_after_a_jump_back_tf_starts_anew(buffer, driven):
    buffer.feed(stamps(60_000, 61_000))
    with pytest.raises(ValueError, match="TF is 60 s ahead of the sweep: time jumped back"):
        driven(550, 505)
    buffer.feed(stamps(0, 1000))  # refused as too old, had the buffer not been cleared
    assert driven(550, 505) == pytest.approx(SPEED * 0.045, abs=1e-6)


def test_a_step_that_lags_behind_does_not_clear_tf(buffer, driven):
    buffer.feed(stamps(1000, 8000))
    assert driven(550, 505) == pytest.approx(SPEED * 0.045, abs=1e-6)
    assert len(buffer.poses) > 300


@pytest.mark.parametrize(
    ("buffer", "fixed_frame", "reason"),
    [(Buffer(), "", "'motion.fixed_frame' is empty"), (None, "odom", "no tf2_ros to look 'odom'")],
)
def test_what_turns_compensation_off_is_said(buffer, fixed_frame, reason):
    said = []
    assert odometry(buffer, fixed_frame, said.append) is None
    (line,) = said
    assert line.startswith("motion: off") and reason in line


def test_with_odometry_that_is_said(buffer):
    said = []
    assert odometry(buffer, "odom", said.append) is not None
    assert said == ["motion: points are projected at the images' time wherever TF tells the motion in 'odom'"]


@pytest.fixture
def make_cameras(ros):
    """`make_cameras(compensation)`: a camera that looks along the LiDAR's x, its one image 40 ms after the sweep."""
    from rclpy.serialization import serialize_message

    looks_ahead = np.eye(4)
    looks_ahead[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]

    def make(compensation: Compensation) -> Cameras:
        cameras = Cameras(
            ("front",), FromRig({"front": RigCamera(looks_ahead)}), "sensor_msgs/msg/Image", ThrottledLog(print),
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


def test_a_lost_odometry_costs_no_view(make_cameras, buffer):
    said = []
    buffer.clear()
    cameras = make_cameras(Compensation(TfPoses(buffer, "odom").trajectory, said.append))
    frame = cameras.frame(cameras.add_sweep(START + 500 * MILLISECOND), np.zeros((1, 3), np.float32), "lidar")
    assert frame.views[0].camera_from_lidar[:3, 3].tolist() == [0, 0, 0]
    assert said == ["projected at the cloud's time, not the image's: TF does not know 'lidar' in 'odom': no data"]
