import pytest

from tttkd_ros.bags.topics import CLOUD, COMPRESSED, IMAGE, camera_topics, labelled_topic, points_topic


def test_the_only_cloud_is_the_sweeps():
    types = {"/velodyne_points": CLOUD, "/segmenter/points_labeled": CLOUD, "/image": IMAGE}
    assert points_topic(types) == "/velodyne_points"


def test_our_own_topic_goes_before_other_clouds():
    assert points_topic({"/lidar/points": CLOUD, "/radar": CLOUD}) == "/lidar/points"


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
    assert camera_topics({topic: kind}) == {camera: topic}


def test_of_several_image_topics_the_unrectified_uncompressed_one_counts():
    types = {
        "/front/image_rect": IMAGE, "/front/image_raw": IMAGE, "/front/image_raw/compressed": COMPRESSED,
        "/front/depth": IMAGE,
    }  # fmt: skip
    assert camera_topics(types) == {"front": "/front/image_raw"}


@pytest.mark.parametrize(
    "kind",
    [
        "velodyne_msgs/msg/VelodyneScan", "velodyne_msgs/msg/VelodynePacket", "ouster_sensor_msgs/msg/PacketMsg",
        "hesai_ros_driver/msg/UdpFrame", "nebula_msgs/msg/NebulaPackets", "livox_ros_driver2/msg/CustomMsg",
    ],
)  # fmt: skip
def test_a_bag_with_packets_only_is_told_what_to_do_with_them(kind):
    with pytest.raises(ValueError, match=f"only what the LiDAR sent: /packets .{kind}.; play it to the LiDAR's driver"):
        points_topic({"/packets": kind, "/front/image": IMAGE})


def test_packets_beside_clouds_do_no_harm():
    assert points_topic({"/packets": "velodyne_msgs/msg/VelodyneScan", "/points": CLOUD}) == "/points"
