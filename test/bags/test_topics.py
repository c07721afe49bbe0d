from collections import Counter

import pytest

from tttkd_ros.bags.topics import CLOUD, COMPRESSED, IMAGE, camera_topics, labelled_topic, points_topic


def each(types, count=1):
    """So many messages on each topic."""
    return Counter(dict.fromkeys(types, count))


def test_the_only_cloud_is_the_sweeps():
    types = {"/velodyne_points": CLOUD, "/segmenter/points_labeled": CLOUD, "/image": IMAGE}
    assert points_topic(types, each(types)) == "/velodyne_points"


def test_our_own_topic_goes_before_other_clouds():
    types = {"/lidar/points": CLOUD, "/radar": CLOUD}
    assert points_topic(types, each(types)) == "/lidar/points"


@pytest.mark.parametrize("empty", ["/lidar/points", "/rear/points"])
def test_a_cloud_topic_without_messages_is_not_the_sweeps_where_another_has_some(empty):
    types = {empty: CLOUD, "/velodyne_points": CLOUD}
    assert points_topic(types, each(["/velodyne_points"])) == "/velodyne_points"


def test_the_only_cloud_topic_is_the_sweeps_although_it_is_empty():
    assert points_topic({"/velodyne_points": CLOUD, "/image": IMAGE}, each(["/image"])) == "/velodyne_points"


def test_predictions_are_told_from_sweeps_and_truth():
    types = {"/lidar/points": CLOUD, "/truth/points_labeled": CLOUD, "/segmenter/points_labeled": CLOUD}
    assert labelled_topic(types) == "/segmenter/points_labeled"


@pytest.mark.parametrize(
    ("topic", "kind", "camera"),
    [
        ("/camera_front/image", IMAGE, "camera_front"),
        ("/camera_front/image/compressed", COMPRESSED, "camera_front"),
        ("/sensing/camera/left/image_raw", IMAGE, "sensing/camera/left"),
        ("/sensing/camera/left/image_rect_color/compressed", COMPRESSED, "sensing/camera/left"),
    ],
)
def test_a_camera_is_named_by_the_namespace_of_its_images(topic, kind, camera):
    assert camera_topics({topic: kind}, each([topic])) == {camera: topic}


def test_of_several_image_topics_the_unrectified_uncompressed_one_counts():
    types = {
        "/front/image_rect": IMAGE, "/front/image_raw": IMAGE, "/front/image_raw/compressed": COMPRESSED,
        "/front/depth": IMAGE,
    }  # fmt: skip
    assert camera_topics(types, each(types)) == {"front": "/front/image_raw"}


def test_an_image_topic_without_messages_does_not_count_where_another_has_some():
    types = {"/front/image": IMAGE, "/front/image/compressed": COMPRESSED}
    assert camera_topics(types, each(["/front/image/compressed"])) == {"front": "/front/image/compressed"}


@pytest.mark.parametrize(
    "kind",
    [
        "velodyne_msgs/msg/VelodyneScan", "velodyne_msgs/msg/VelodynePacket", "ouster_sensor_msgs/msg/PacketMsg",
        "hesai_ros_driver/msg/UdpFrame", "nebula_msgs/msg/NebulaPackets", "livox_ros_driver2/msg/CustomMsg",
    ],
)  # fmt: skip
def test_a_bag_with_packets_only_is_told_what_to_do_with_them(kind):
    with pytest.raises(ValueError, match=f"only what the LiDAR sent: /packets .{kind}.; play it to the LiDAR's driver"):
        points_topic({"/packets": kind, "/front/image": IMAGE, "/points": CLOUD}, each(["/packets", "/front/image"]))


def test_packets_beside_clouds_do_no_harm():
    types = {"/packets": "velodyne_msgs/msg/VelodyneScan", "/points": CLOUD}
    assert points_topic(types, each(types)) == "/points"
