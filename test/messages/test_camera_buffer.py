"""What cameras send, in this process; images are serialised as DDS would hand them over."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.messages.camera_buffer import CameraBuffer
from tttkd_ros.messages.matching import PATIENCE, REMEDY
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.ros.camera_setup import RigExtrinsics
from tttkd_ros.ros.tf_lookup import TfTransforms

MILLISECOND = 10**6
SWEEP = 10 * 10**9
POINTS = np.zeros((3, 3), np.float32)


@pytest.fixture
def logged():
    return []


@pytest.fixture
def make(logged):
    def make(names=("left",), extrinsics=None, **options):
        extrinsics = extrinsics or RigExtrinsics({name: RigCamera(np.eye(4)) for name in names})
        options = {"tolerance_ns": 50 * MILLISECOND, "depth": 5, "wait_s": 0.0} | options
        return CameraBuffer(names, extrinsics, "sensor_msgs/msg/Image", ThrottledLog(logged.append).warn, **options)

    return make


@pytest.fixture
def serialised(ros):
    from rclpy.serialization import serialize_message

    return lambda stamp, **options: serialize_message(ros.image(stamp, **options))


def problems(frame):
    """Why the frame has no view; empty if it has one."""
    return "" if frame.views else "; ".join(f"{camera}: {reason}" for camera, reason in frame.missing.items())


def test_the_nearest_image_within_tolerance_becomes_a_view(make, ros, serialised):
    cameras = make()
    cameras.add_info("left", ros.info())
    for stamp in (SWEEP - 100 * MILLISECOND, SWEEP - 10 * MILLISECOND, SWEEP + 30 * MILLISECOND):
        cameras.add_image("left", serialised(stamp))
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    (view,) = frame.views
    assert (frame.stamp, view.name, view.stamp) == (SWEEP, "left", SWEEP - 10 * MILLISECOND)
    sent = np.asarray(ros.image(view.stamp).data).reshape(view.image.shape)
    np.testing.assert_array_equal(view.image, sent)


def test_a_camera_that_fails_leaves_the_others(make, ros, serialised, logged):
    cameras = make(("left", "right"))
    for name in ("left", "right"):
        cameras.add_info(name, ros.info())
    cameras.add_image("right", serialised(SWEEP))
    assert [view.name for view in cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views] == ["right"]
    assert logged == ["left: its image is not used: no image"]


def test_a_frame_without_views_says_why_for_each_camera(make, ros, serialised):
    cameras = make(("left", "right"))
    cameras.add_image("right", serialised(SWEEP))
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    assert problems(frame) == "left: no image; right: no usable CameraInfo yet"


def test_a_frame_waits_for_an_image_on_its_way(make, ros, serialised):
    cameras = make(wait_s=10.0)
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(SWEEP - 40 * MILLISECOND))
    late = threading.Timer(0.1, lambda: cameras.add_image("left", serialised(SWEEP)))
    late.start()
    (view,) = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views
    late.join()
    assert view.stamp == SWEEP


@pytest.mark.parametrize(("offset", "taken"), [(0, 0), (40, 30), (-40, -30)])
def test_the_offset_of_a_camera_selects_its_image(make, ros, serialised, offset, taken):
    cameras = make(("left", "right"), offsets_ns=(0, offset * MILLISECOND))
    for camera in cameras.names:
        cameras.add_info(camera, ros.info())
        for delay in (-30, 0, 30):
            cameras.add_image(camera, serialised(SWEEP + delay * MILLISECOND))
    left, right = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views
    assert (left.stamp - SWEEP, right.stamp - SWEEP) == (0, taken * MILLISECOND)


@pytest.mark.parametrize(("delay", "side"), [(-73, "too old"), (73, "from the future")])
def test_the_distance_of_the_nearest_image_is_reported(make, ros, serialised, logged, delay, side):
    cameras = make()
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(SWEEP + delay * MILLISECOND))
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    reason = f"the nearest image is 0.073 s {side}, the tolerance 0.05 s: {REMEDY}"
    assert problems(frame) == f"left: {reason}" and logged == [f"left: its image is not used: {reason}"]


@pytest.fixture
def waits(monkeypatch):
    """Whether each frame had to wait; no waiting is done."""
    waits = []

    def wait_for(condition, predicate, timeout):
        waits.append(not predicate())
        return not waits[-1]

    monkeypatch.setattr(threading.Condition, "wait_for", wait_for)
    return waits


def test_a_camera_that_sends_nothing_is_not_waited_for_until_it_is_back(make, serialised, waits):
    cameras, back = make(("left", "dead"), wait_s=10.0), PATIENCE + 5
    for index in range(2 * back):
        stamp = SWEEP + index * 100 * MILLISECOND
        cameras.add_image("left", serialised(stamp))
        if index == back:
            cameras.add_image("dead", serialised(stamp))
        cameras.frame(cameras.add_sweep(stamp), POINTS, "lidar")
    assert waits == [True] * PATIENCE + [False] * 6 + [True] * (PATIENCE - 1) + [False] * 5


@pytest.mark.parametrize("late", [20, 60])
@pytest.mark.parametrize("period", [100, 200])
def test_a_short_wait_takes_no_image_from_a_longer_one_or_from_later_sweeps(make, ros, serialised, late, period):
    """Images come `late` ms after their stamps. A sweep waits 40 ms for its prediction, then 100 ms for its step."""
    cameras = make(depth=10)
    cameras.add_info("left", ros.info())
    now, to_send = 0, list(range(0, 2000, period))

    def pass_time(until):
        nonlocal now
        now = max(now, until)
        while to_send and to_send[0] + late <= now:
            cameras.add_image("left", serialised(SWEEP + to_send.pop(0) * MILLISECOND))

    class SimulatedTime(threading.Condition):
        def wait_for(self, predicate, timeout):
            end = now + 1000 * timeout
            while not predicate() and now < end:
                pass_time(now + 20)

    cameras._arrived = SimulatedTime()
    served = {0.04: [], 0.1: []}
    for stamp in range(0, 2000, 100):
        pass_time(stamp)
        scan = cameras.add_sweep(SWEEP + stamp * MILLISECOND)
        for wait, stamps in served.items():
            if cameras.frame(scan, POINTS, "lidar", wait_s=wait).views and stamp > 200:  # the rate is known
                stamps.append(stamp)
    with_image = [stamp for stamp in range(0, 2000, period) if stamp > 200]
    assert served == {0.04: with_image if late == 20 else [], 0.1: with_image}


@pytest.mark.parametrize(("delay", "waited"), [(-5, False), (-49, False), (-60, True)])
def test_an_image_to_which_the_next_would_be_no_nearer_is_not_kept_waiting(make, serialised, waits, delay, waited):
    cameras = make(wait_s=10.0)
    for index in range(3):
        cameras.add_image("left", serialised(SWEEP + (delay + 100 * index) * MILLISECOND))
    cameras.frame(cameras.add_sweep(SWEEP + 200 * MILLISECOND), POINTS, "lidar")
    assert waits == [waited]


@pytest.mark.parametrize("factor", [0.2, 0.5, 3])
def test_slower_and_faster_cameras_serve_the_sweeps_that_they_can(make, ros, serialised, factor):
    """Images per sweep."""
    cameras = make(depth=10)
    cameras.add_info("left", ros.info())
    served, sent = [], 0
    for index in range(20):
        stamp = SWEEP + index * 100 * MILLISECOND
        while sent <= index * factor:
            cameras.add_image("left", serialised(SWEEP + round(sent * 100 / factor) * MILLISECOND))
            sent += 1
        served += [view.stamp == stamp for view in cameras.frame(cameras.add_sweep(stamp), POINTS, "lidar").views]
    assert served == [True] * round(20 * min(factor, 1))


def test_one_image_far_in_the_future_takes_no_other_cameras_views(make, ros, serialised):
    cameras = make(("left", "right"))
    for camera in cameras.names:
        cameras.add_info(camera, ros.info())
        cameras.add_image(camera, serialised(SWEEP))
    cameras.add_image("left", serialised(SWEEP + 10**18))
    sweep = cameras.add_sweep(SWEEP)
    assert len(cameras.frame(sweep, POINTS, "lidar").views) == 2
    for camera in cameras.names:
        cameras.add_image(camera, serialised(SWEEP + 100 * MILLISECOND))
    later = cameras.add_sweep(SWEEP + 100 * MILLISECOND)
    assert len(cameras.frame(later, POINTS, "lidar").views) == 2


def test_a_job_from_before_a_jump_is_told_so(make, ros, serialised):
    cameras = make()
    cameras.add_info("left", ros.info())
    sweep = cameras.add_sweep(SWEEP)
    cameras.add_sweep(SWEEP // 2)
    cameras.add_image("left", serialised(SWEEP))
    frame = cameras.frame(sweep, POINTS, "lidar")
    assert problems(frame) == "left: time has jumped back since the sweep"


def test_a_rig_with_intrinsics_needs_no_camera_info(make, ros, serialised):
    model = CameraModel.from_info(ros.info())
    cameras = make(extrinsics=RigExtrinsics({"left": RigCamera(np.eye(4), model)}))
    cameras.add_image("left", serialised(SWEEP))
    assert cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views[0].camera == model


@pytest.mark.parametrize("damage", [lambda cdr: cdr[:7], lambda cdr: cdr[:40]])
def test_a_message_cut_short_is_a_problem_and_no_exception(make, ros, serialised, logged, damage):
    cameras = make()
    cameras.add_info("left", ros.info())
    cameras.add_image("left", damage(serialised(SWEEP)))
    assert cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views == ()
    assert logged


class Buffer:
    """As tf2_ros.Buffer, with one transform that comes when told to."""

    def __init__(self):
        self.known = False
        self.asked = []

    def all_frames_as_yaml(self):
        return "[]"

    def can_transform(self, target, source, time):
        return self.known and (target, source) == ("camera_front_optical", "lidar")

    def lookup_transform(self, target, source, time):
        self.asked.append(time.nanoseconds)
        half = 0.5**0.5  # a quarter turn about z
        translation, rotation = SimpleNamespace(x=1.0, y=2.0, z=3.0), SimpleNamespace(x=0.0, y=0.0, z=half, w=half)
        return SimpleNamespace(transform=SimpleNamespace(translation=translation, rotation=rotation))


def test_tf_is_asked_by_the_messages_frames_for_the_images_time(make, ros, serialised):
    buffer = Buffer()
    cameras = make(extrinsics=TfTransforms(buffer))
    cameras.add_image("left", serialised(SWEEP + 10_000_000))
    cameras.add_info("left", ros.info())
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    assert problems(frame) == "left: no transform from 'lidar' to 'camera_front_optical' in TF yet"
    buffer.known = True
    (view,) = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views
    expected = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]]
    np.testing.assert_allclose(view.camera_from_lidar, expected, atol=1e-12)
    assert buffer.asked == [SWEEP + 10_000_000]


@pytest.mark.parametrize("apart", [-37, 18, 90])
def test_a_clock_difference_is_reported_and_its_offset_repairs_it(make, ros, serialised, apart):
    def frames(**options):
        cameras = make(**options)
        cameras.add_info("left", ros.info())
        for number in range(3):
            stamp = 10 * SWEEP + number * 10**8
            cameras.add_image("left", serialised(stamp + apart * 10**9))
            yield cameras.frame(cameras.add_sweep(stamp), POINTS, "lidar")

    *_, last = frames()
    assert not last.views and f"matching.offsets: [{apart}.0]" in last.missing["left"]
    assert all(frame.views and not frame.missing for frame in frames(offsets_ns=(apart * 10**9,)))


@pytest.mark.parametrize(("offset", "asked"), [(0, 0), (40, 40), (-37_000, 0)])
def test_an_image_of_a_clock_that_is_apart_is_projected_at_its_time_by_the_sweeps_clock(
    make, ros, serialised, offset, asked
):
    class Standing:
        def __init__(self):
            self.asked = []

        def between(self, lidar_frame, image_stamp, stamp):
            self.asked.append(image_stamp - stamp)
            return np.eye(4)

        def deskewed(self, *_):
            return None

    standing, late = Standing(), SWEEP + 100 * 10**9  # stamps are not negative
    cameras = make(offsets_ns=(offset * MILLISECOND,), compensation=standing)
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(late + offset * MILLISECOND))
    assert len(cameras.frame(cameras.add_sweep(late), POINTS, "lidar").views) == 1
    assert standing.asked == [asked * MILLISECOND]
@pytest.mark.parametrize(("width", "height"), [(41, 25), (1000, 1000), (1, 1001)])
def test_an_image_above_the_limit_is_refused_on_arrival(make, ros, serialised, logged, width, height):
    cameras = make(max_pixels=1000)
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(SWEEP, width=width, height=height))
    reason = (f"image of {width}x{height} is refused: expected at most 1000 pixels; let the camera send smaller ones, "
              "or raise the parameter limits.image_pixels")
    assert logged == [f"left/image: {reason}"]
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    assert problems(frame) == f"left: {reason}"
    assert cameras.received == {"left": 0}


def test_an_image_that_hides_its_bytes_behind_a_small_size_is_refused(make, ros, logged):
    from rclpy.serialization import serialize_message

    lie = ros.image(SWEEP, width=1000, height=1000)
    lie.width = lie.height = 4
    cameras = make(max_pixels=1000)
    cameras.add_image("left", serialize_message(lie))
    assert len(logged) == 1 and "bytes is refused: expected at most 73536; " in logged[0]


@pytest.fixture
def compressed():
    """`compressed(width, height)`: a serialised CompressedImage at the time of the sweep."""
    import cv2
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage

    def make(width, height, kind=".jpg"):
        black = cv2.imencode(kind, np.zeros((height, width, 3), np.uint8))[1]
        message = CompressedImage(format=kind, data=black.tobytes())
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(SWEEP, 10**9)
        return serialize_message(message)

    return make


@pytest.fixture
def published(ros):
    """`published(stamp, focal, **fields)`: a CameraInfo."""

    def make(stamp, focal, **fields):
        message = ros.info(focal)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return make


@pytest.fixture
def undecodable(monkeypatch):
    """Fails the test that decodes an image."""
    def decode_image(*_, **__):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("tttkd_ros.messages.camera_buffer.decode_image", decode_image)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize(("width", "height"), [(4000, 3000), (10_000, 300)])
def test_a_compressed_image_above_the_limit_is_refused_before_it_is_decoded(
    logged, ros, compressed, undecodable, kind, width, height
):
    extrinsics = RigExtrinsics({"left": RigCamera(np.eye(4))})
    cameras = CameraBuffer(("left",), extrinsics, "sensor_msgs/msg/CompressedImage", ThrottledLog(logged.append).warn,
                      tolerance_ns=50 * MILLISECOND, depth=5, wait_s=0.0, max_pixels=2_000_000)
    cameras.add_info("left", ros.info())
    cameras.add_image("left", compressed(width, height, kind))
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    assert problems(frame).startswith(f"left: image of {width}x{height} is refused: expected at most 2000000 pixels")


@pytest.mark.parametrize(("width", "height"), [(56, 56), (112, 112), (224, 112)])
def test_an_image_of_another_size_than_its_info_is_not_decoded(make, ros, serialised, undecodable, width, height):
    cameras = make()
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(SWEEP, width=width, height=height))
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    assert f"left: image is {width}x{height}, its CameraInfo allows 112x56" in problems(frame)


@pytest.mark.parametrize("images", [1, 5, 100])
def test_a_sweeps_image_is_there_however_many_come_while_it_waits(make, ros, serialised, images):
    cameras = make(depth=3, max_bytes=40_000)
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(SWEEP))
    sweep = cameras.add_sweep(SWEEP)
    for number in range(images):
        cameras.add_image("left", serialised(SWEEP + (100 + 33 * number) * MILLISECOND))
    (view,) = cameras.frame(sweep, POINTS, "lidar").views
    assert view.stamp == SWEEP


@pytest.mark.parametrize("infos", [0, 1])
@pytest.mark.parametrize("frame", ["camera_left_optical", "bumper", "a/b"])
def test_the_frame_of_a_view_is_that_of_its_image_though_no_info_came(make, ros, infos, frame):
    from rclpy.serialization import serialize_message

    cameras = make(extrinsics=RigExtrinsics({"left": RigCamera(np.eye(4), CameraModel.from_info(ros.info()))}))
    for _ in range(infos):
        cameras.add_info("left", ros.info())
    image = ros.image(SWEEP)
    image.header.frame_id = frame
    cameras.add_image("left", serialize_message(image))
    assert cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views
    assert cameras.frame_id("left") == frame


@pytest.mark.parametrize("first", ["published", "image"])
def test_intrinsics_of_a_rig_override_camera_info(make, ros, serialised, first):
    model = CameraModel.from_info(ros.info(123.0))
    cameras = make(extrinsics=RigExtrinsics({"left": RigCamera(np.eye(4), model)}))
    steps = [lambda: cameras.add_info("left", ros.info(50.0)), lambda: cameras.add_image("left", serialised(SWEEP))]
    for step in steps if first == "published" else steps[::-1]:
        step()
    assert cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views[0].camera == model


def test_a_new_camera_model_applies_from_its_stamp_on(make, serialised, published):
    cameras = make()
    for index, focal in enumerate((50.0, 50.0, 70.0, 70.0)):
        cameras.add_info("left", published(SWEEP + index * 100 * MILLISECOND, focal))
    seen = []
    for index in range(4):
        stamp = SWEEP + index * 100 * MILLISECOND
        cameras.add_image("left", serialised(stamp))
        seen += [view.camera.fx for view in cameras.frame(cameras.add_sweep(stamp), POINTS, "lidar").views]
    assert seen == [50, 50, 70, 70]


def test_a_lost_calibration_leaves_the_last_usable_one_with_a_warning(make, serialised, published, logged):
    cameras = make()
    cameras.add_info("left", published(SWEEP - 100 * MILLISECOND, 50.0))
    cameras.add_info("left", published(SWEEP, 0.0))
    cameras.add_image("left", serialised(SWEEP))
    assert cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views[0].camera.fx == 50
    (message,) = logged
    assert "not calibrated" in message and "the last usable one stays in force" in message


def test_a_camera_is_used_from_its_first_good_info_on(make, serialised, published, logged):
    cameras = make()
    for index, focal in enumerate((0.0, 0.0, 50.0)):
        stamp = SWEEP + index * 100 * MILLISECOND
        cameras.add_info("left", published(stamp, focal))
        cameras.add_image("left", serialised(stamp))
        views = cameras.frame(cameras.add_sweep(stamp), POINTS, "lidar").views
        assert len(views) == (focal > 0)
    assert "none that can be used came yet" in logged[0]


def test_rectified_images_use_p(make, serialised, published):
    p = [44.0, 0.0, 30.0, 0.0, 0.0, 44.0, 20.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    cameras = make(("left", "right"), rectified=["right"])
    for name in cameras.names:
        cameras.add_info(name, published(SWEEP, 50.0, p=p, d=[0.1, 0.0, 0.0, 0.0, 0.0]))
        cameras.add_image(name, serialised(SWEEP))
    left, right = (view.camera for view in cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views)
    assert (left.fx, left.distortion[0]) == (50, 0.1)
    assert (right.fx, right.distortion) == (44, ())


@pytest.mark.parametrize("binning, width, focal", [(2, 2, 25.0), (0, 1, 50.0)])
def test_the_model_is_that_of_the_images_own_size(make, ros, serialised, published, binning, width, focal):
    whole = ros.info()
    cameras = make()
    cameras.add_info("left", published(SWEEP, 50.0, binning_x=binning, binning_y=binning))
    cameras.add_image("left", serialised(SWEEP, width=whole.width // width, height=whole.height // width))
    (view,) = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar").views
    assert view.camera.fx == focal and (view.camera.height, view.camera.width) == view.image.shape[:2]


def test_an_image_of_another_size_is_refused_with_the_sizes(make, ros, serialised):
    cameras = make()
    cameras.add_info("left", ros.info())
    cameras.add_image("left", serialised(SWEEP, width=10, height=10))
    frame = cameras.frame(cameras.add_sweep(SWEEP), POINTS, "lidar")
    assert f"image is 10x10, its CameraInfo allows {ros.info().width}x{ros.info().height}" in problems(frame)
