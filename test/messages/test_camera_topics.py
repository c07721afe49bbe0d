import pytest

from tttkd_ros.messages.camera_topics import camera_name, info_topic, is_rectified, split_name


@pytest.mark.parametrize("topic, name, info", [
    ("/front/image_raw", "front", "/front/camera_info"),
    ("/sensing/camera/left/image_rect_color/compressed", "sensing/camera/left", "/sensing/camera/left/camera_info"),
    ("/image_raw", "image_raw", "/camera_info"),
    ("/rgb/compressed", "rgb", "/camera_info"),
    ("front/image", "front", "front/camera_info"),
])
def test_the_namespace_names_the_camera_and_holds_its_camera_info(topic, name, info):
    assert (camera_name(topic), info_topic(topic)) == (name, info)


@pytest.mark.parametrize("topic, rectified", [
    ("/a/image_rect", True), ("/a/image_rect_color/compressed", True), ("/a/image_rect_raw", True),
    ("/a/left_rectified", True), ("/a/rect", True), ("/a/image_raw", False), ("/a/image", False),
    ("/a/image_corrected", False), ("/a/direct", False), ("/rect/image_raw", False),
])  # fmt: skip
def test_the_last_part_of_the_name_says_whether_images_are_rectified(topic, rectified):
    assert is_rectified(topic) is rectified


@pytest.mark.parametrize("written, name, topic", [
    ("front", "front", None), ("/front", "front", None), ("/robot/front/", "robot/front", None),
    ("/front/image_raw", "front", "/front/image_raw"), ("front/image_raw", "front", "/front/image_raw"),
    ("front/image_rect/compressed", "front", "/front/image_rect"), ("/image_raw", "image_raw", None),
])  # fmt: skip
def test_a_camera_may_be_called_by_name_namespace_or_topic(written, name, topic):
    assert split_name(written) == (name, topic)
