from collections import Counter

import pytest

from tttkd_ros.bags.topics import (
    CLOUD,
    COMPRESSED,
    IMAGE,
    TRANSFORMS,
    camera_topics,
    labelled_topic,
    points_topic,
    require_sweeps,
    transform_topics,
    undecoded_cameras,
)


def each(types, count=1):
    """So many messages on each topic."""
    return Counter(dict.fromkeys(types, count))


def test_the_only_cloud_is_the_sweeps():
    types = {"/velodyne_points": CLOUD, "/segmenter/points_labeled": CLOUD, "/image": IMAGE}
    assert points_topic(types, each(types)) == "/velodyne_points"


def test_the_writers_topic_precedes_other_clouds():
    types = {"/lidar/points": CLOUD, "/radar": CLOUD}
    assert points_topic(types, each(types)) == "/lidar/points"


@pytest.mark.parametrize("empty", ["/lidar/points", "/rear/points"])
def test_an_empty_cloud_topic_is_not_the_sweeps_if_another_has_messages(empty):
    types = {empty: CLOUD, "/velodyne_points": CLOUD}
    assert points_topic(types, each(["/velodyne_points"])) == "/velodyne_points"


def test_the_only_cloud_topic_is_the_sweeps_although_it_is_empty():
    assert points_topic({"/velodyne_points": CLOUD, "/image": IMAGE}, each(["/image"])) == "/velodyne_points"


def test_predictions_are_distinguished_from_sweeps_and_truth():
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


def test_an_empty_image_topic_is_not_used_if_another_has_messages():
    types = {"/front/image": IMAGE, "/front/image/compressed": COMPRESSED}
    assert camera_topics(types, each(["/front/image/compressed"])) == {"front": "/front/image/compressed"}


@pytest.mark.parametrize(
    "kind",
    [
        "velodyne_msgs/msg/VelodyneScan", "velodyne_msgs/msg/VelodynePacket", "ouster_sensor_msgs/msg/PacketMsg",
        "hesai_ros_driver/msg/UdpFrame", "nebula_msgs/msg/NebulaPackets", "rslidar_msg/msg/RslidarPacket",
        "pandar_msgs/PandarScan", "my_lidar/msg/Packets",
    ],
)  # fmt: skip
def test_a_bag_with_only_packets_is_refused_with_the_remedy(kind):
    words = f"only packets or compressed clouds: /packets .{kind}.; play them to the LiDAR's driver"
    with pytest.raises(ValueError, match=words):
        points_topic({"/packets": kind, "/front/image": IMAGE, "/points": CLOUD}, each(["/packets", "/front/image"]))
    with pytest.raises(ValueError, match=words):
        require_sweeps({"/packets": kind}, "/packets")


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("/points/draco", "draco_point_cloud_transport: ros2 run point_cloud_transport .*in/draco:=/points/draco "),
        ("/points/zstd", "zstd_point_cloud_transport.*in_transport:=zstd "),
        ("/points/cloudini", "cloudini_ros.*in_transport:=cloudini "),
        ("/squeezed", "in/draco:=/squeezed "),
    ],
)
def test_a_bag_with_only_compressed_clouds_is_refused_with_the_decoder(topic, words):
    with pytest.raises(ValueError, match=words):
        points_topic({topic: "point_cloud_interfaces/msg/CompressedPointCloud2"}, each([topic]))


@pytest.mark.parametrize("kind", ["sensor_msgs/msg/LaserScan", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
                                  "theora_image_transport/msg/Packet", "h264_msgs/msg/Packet"])
def test_a_message_without_a_cloud_is_not_a_sweep(kind):
    with pytest.raises(ValueError, match="no topic could be the sweeps"):
        points_topic({"/front": kind}, each(["/front"]))


@pytest.mark.parametrize("kind", ["livox_ros_driver2/msg/CustomMsg", "livox_ros_driver/msg/CustomMsg",
                                  "livox_interfaces/msg/CustomMsg"])
def test_a_livox_message_is_a_sweep_if_there_is_no_cloud(kind):
    types = {"/livox/lidar": kind, "/points": CLOUD}
    assert points_topic(types, each(["/livox/lidar"])) == "/livox/lidar"
    assert points_topic(types, each(types)) == "/points"
    require_sweeps(types, "/livox/lidar")


@pytest.mark.parametrize(
    ("topic", "kind", "words"),
    [
        ("/front/image_raw/ffmpeg", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket", "ffmpeg_image_transport: ros2 run"),
        ("/front/image_raw/theora", "theora_image_transport/msg/Packet", "in/theora:=/front/image_raw/theora "),
        ("/front/video", "foxglove_msgs/msg/CompressedVideo", "foxglove_compressed_video_transport"),
        ("/front/image/compressedDepth", COMPRESSED, "compressed_depth_image_transport"),
        ("/front/image/zstd", COMPRESSED, "zstd_image_transport"),
    ],
)
def test_a_camera_with_undecodable_images_is_reported_with_the_decoder(topic, kind, words):
    types = {topic: kind, "/rear/image": IMAGE}
    assert camera_topics(types, each(types)) == {"rear": "/rear/image"}
    (reason,) = undecoded_cameras(types, each(types)).values()
    assert reason.startswith(f"its images are on {topic} only, as {kind}") and words in reason
    assert undecoded_cameras(types, each(["/rear/image"])) == {}


def test_a_camera_that_also_has_decodable_images_is_not_reported():
    packets = "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
    types = {"/front/image/ffmpeg": packets, "/front/image/compressed": COMPRESSED}
    assert undecoded_cameras(types, each(types)) == {}


def test_packets_beside_clouds_do_no_harm():
    types = {"/packets": "velodyne_msgs/msg/VelodyneScan", "/points": CLOUD}
    assert points_topic(types, each(types)) == "/points"


@pytest.mark.parametrize("topics, chosen", [
    (["/image_raw", "/image_rect"], {"image_raw": "/image_raw"}),
    (["/rgb", "/depth", "/semantic_segmentation"], {"rgb": "/rgb"}),
    (["/camera"], {"camera": "/camera"}),
    (["/image_raw", "/front/image_rect_color"], {"front": "/front/image_rect_color", "image_raw": "/image_raw"}),
])  # fmt: skip
def test_a_camera_in_the_root_namespace_is_named_by_its_topic(topics, chosen):
    types = dict.fromkeys(topics, IMAGE)
    assert camera_topics(types, each(types)) == chosen


@pytest.mark.parametrize("preferred", ["/front/image_rect", "/front/thermal", "/front/image_raw"])
def test_a_preferred_image_topic_is_taken_before_the_others(preferred):
    types = {"/front/image_raw": IMAGE, "/front/image_rect/compressed": COMPRESSED, "/front/thermal": IMAGE}
    (found,) = camera_topics(types, each(types), {preferred}).values()
    assert found.removesuffix("/compressed") == preferred


def test_compressed_depth_is_no_camera():
    types = {"/depth/image_raw/compressedDepth": COMPRESSED, "/front/image": IMAGE}
    assert camera_topics(types, each(types)) == {"front": "/front/image"}


@pytest.mark.parametrize("beside, order", [
    ("/robot1/lidar/points", ["/robot1/tf", "/tf", "/a/tf", "/robot2/tf"]),
    ("/robot2/points", ["/robot2/tf", "/tf", "/a/tf", "/robot1/tf"]),
    ("/points", ["/tf", "/a/tf", "/robot1/tf", "/robot2/tf"]),
])  # fmt: skip
def test_the_transforms_of_the_sweeps_own_namespace_go_first(beside, order):
    types = dict.fromkeys(["/tf", "/robot2/tf", "/tf_static", "/a/tf", "/robot1/tf"], TRANSFORMS) | {"/b/tf": IMAGE}
    assert transform_topics(types, "tf", beside) == order
