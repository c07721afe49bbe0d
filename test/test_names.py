import pytest

from tttkd_ros.names import camera_name, info_topic, is_rectified, parse_camera, resolve_frame


@pytest.mark.parametrize("topic, name, info", [
    ("/front/image_raw", "front", "/front/camera_info"),
    ("/sensing/camera/left/image_rect_color/compressed", "sensing/camera/left", "/sensing/camera/left/camera_info"),
    ("/image_raw", "image_raw", "/camera_info"),
    ("/rgb/compressed", "rgb", "/camera_info"),
    ("front/image", "front", "front/camera_info"),
])
def test_namespace_is_the_camera_name_and_has_its_camera_info(topic, name, info):
    assert (camera_name(topic), info_topic(topic)) == (name, info)


@pytest.mark.parametrize("topic, rectified", [
    ("/a/image_rect", True), ("/a/image_rect_color/compressed", True), ("/a/image_rect_raw", True),
    ("/a/left_rectified", True), ("/a/rect", True), ("/a/image_raw", False), ("/a/image", False),
    ("/a/image_corrected", False), ("/a/direct", False), ("/rect/image_raw", False),
])  # fmt: skip
def test_last_part_of_the_topic_decides_whether_images_are_rectified(topic, rectified):
    assert is_rectified(topic) is rectified


@pytest.mark.parametrize("written, name, topic", [
    ("front", "front", None), ("/front", "front", None), ("/robot/front/", "robot/front", None),
    ("/front/image_raw", "front", "/front/image_raw"), ("front/image_raw", "front", "/front/image_raw"),
    ("front/image_rect/compressed", "front", "/front/image_rect"), ("/image_raw", "image_raw", None),
])  # fmt: skip
def test_camera_is_parsed_from_name_namespace_or_topic(written, name, topic):
    assert parse_camera(written) == (name, topic)


@pytest.mark.parametrize("frame, known, expected", [
    ("lidar", {"lidar", "robot1/lidar"}, "lidar"),
    ("/lidar", {"lidar"}, "lidar"),
    ("lidar", {"robot1/lidar", "robot1/base"}, "robot1/lidar"),
    ("robot1/lidar", {"lidar", "base"}, "lidar"),
    ("/robot1/lidar", {"fleet/robot1/lidar"}, "fleet/robot1/lidar"),
    ("lidar", {"front_lidar", "lidar2"}, "lidar"),
    ("", {"robot1/"}, ""),
])
def test_tf_prefix_may_be_on_one_side_only(frame, known, expected):
    assert resolve_frame(frame, known) == expected


def test_frame_that_matches_several_is_refused_with_them():
    with pytest.raises(ValueError, match="'lidar' could be any of robot1/lidar, robot2/lidar"):
        resolve_frame("lidar", {"robot1/lidar", "robot2/lidar"})
