"""A running node that gets too large messages, cannot receive or be received, or has a twin: it warns and goes on."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("rclpy")

import rclpy  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import Image, PointCloud2  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

SECOND = 10**9
STAMPS = itertools.count(100 * SECOND, SECOND)


@pytest.fixture(scope="module")
def node(start_node, models, tmp_path_factory):
    """With intrinsics in its rig, so that it needs no CameraInfo, and low limits."""
    rig = tmp_path_factory.mktemp("rig") / "rig.yaml"
    rig.write_text(
        "cameras: {camera_front: {camera_from_lidar: {matrix: "
        "[[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]}, camera_info: {width: 112, height: 56, "
        "k: [60, 0, 56, 0, 60, 28, 0, 0, 1]}}}\n"
    )
    process = start_node({
        "model": str(models.student), "teacher": "", "rig": str(rig), "qos.reliability": "reliable", "qos.depth": 100,
        "limits.cloud_bytes": 65536, "limits.image_pixels": 10_000, "matching.wait": 0.3,
    }, "-r", "__node:=bounded")
    process.wait_for("active: waiting for sweeps")
    return process


@pytest.fixture(scope="module")
def talker(node, ros):
    with ros.connected_talker("bounded") as talker:
        yield talker


@pytest.mark.parametrize("points", [4096, 10_000, 100_000])
def test_a_cloud_above_the_limit_is_counted_and_the_next_one_answered(node, talker, ros, points):
    talker.points.publish(ros.cloud(next(STAMPS), ros.points(points)))
    talker.answer(ros.cloud(next(STAMPS)))
    assert "bytes, expected at most 65536; send single sweeps instead of maps, or raise the parameter" in node.log


def test_an_overlay_has_the_images_frame_before_any_camera_info_came(talker, ros):
    overlays = []
    subscription = talker.node.create_subscription(Image, "/bounded/overlay/camera_front", overlays.append, 10)
    talker.until(lambda: talker.node.count_publishers("/bounded/overlay/camera_front"))

    def drawn():
        stamp = next(STAMPS)
        talker.images.publish(ros.image(stamp))
        talker.answer(ros.cloud(stamp))
        return overlays

    talker.until(drawn, 60)
    talker.node.destroy_subscription(subscription)
    assert overlays[0].header.frame_id == "camera_front_optical"


def test_an_image_above_the_limit_is_refused_with_the_remedy(node, talker, ros):
    talker.images.publish(ros.image(next(STAMPS), width=200, height=100))
    node.wait_for("image of 200x100 is refused: expected at most 10000 pixels")
    assert "or raise the parameter limits.image_pixels" in node.log


def test_resuming_without_a_teacher_is_refused_with_the_reason(talker):
    answer = talker.call(Trigger, "/bounded/resume")
    assert (answer.success, answer.message) == (False, "adaptation is off: needs a camera and a teacher")


def test_another_node_of_its_name_is_warned_of(node, talker):
    namesake = rclpy.create_node("bounded", context=talker.context)
    node.wait_for("/bounded: 1 more nodes have this name, and all publish on the same topics: end them, or rename")
    namesake.destroy_node()


def test_topics_that_do_not_match_are_warned_of_once_by_their_names_after_remapping(node, talker, ros):
    for _ in range(2):
        best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        talker.node.create_publisher(PointCloud2, "/lidar/points", best_effort)
    talker.listen(PointCloud2, "/bounded/points_labeled", ros.LATCHED)
    node.wait_for("/lidar/points: a publisher is best effort while this node asks for reliable", 20)
    node.wait_for("/bounded/points_labeled: a subscriber asks for a durability that this node does not offer", 20)
    assert node.log.count("a publisher is best effort") == 1
    assert "incompatible QoS" not in node.log
