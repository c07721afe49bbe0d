"""Which topics the node listens to: its cameras' own, those of a rig, and those of a remapping."""

from __future__ import annotations

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from tttkd_ros.geometry.rig import RigCamera  # noqa: E402
from tttkd_ros.ros.camera_topics import camera_topics, with_cameras  # noqa: E402
from tttkd_ros.ros.settings import Settings  # noqa: E402

RIG = {"front": RigCamera(np.eye(4)), "rear": RigCamera(np.eye(4), topic="/back/image_rect")}


@pytest.fixture
def make_node():
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(*remappings, namespace=""):
        arguments = ["--ros-args", *(word for rule in remappings for word in ("-r", rule))]
        nodes.append(rclpy.create_node("topics", context=context, cli_args=arguments, namespace=namespace))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.mark.parametrize("cameras, rig, expected", [
    (("auto",), RIG, ("front", "rear")), (("auto",), None, ("camera_front",)), (("rear",), RIG, ("rear",)),
    ((), RIG, ()), (("camera_front",), RIG, ("camera_front",)),
])  # fmt: skip
def test_by_default_the_cameras_are_those_of_the_rig(cameras, rig, expected):
    assert with_cameras(Settings(cameras=cameras), rig).cameras == expected


@pytest.mark.parametrize("offsets, fit", [((), True), ((0.1, 0.2), True), ((0.1,), False), ((0.1, 0.2, 0.3), False)])
def test_offsets_must_fit_the_cameras_of_the_rig(offsets, fit):
    settings = Settings(offsets=offsets)
    if fit:
        assert with_cameras(settings, RIG).offsets == offsets
    else:
        with pytest.raises(ValueError, match="matching.offsets.*as many as cameras .2."):
            with_cameras(settings, RIG)


def listened(node, cameras, rig=None, **options):
    return {name: tuple(topics) for name, topics in
            camera_topics(node, Settings(cameras=cameras, **options), rig).items()}


def test_a_cameras_topics_are_called_by_its_name_in_the_nodes_namespace(make_node):
    assert listened(make_node(namespace="robot1"), ("a/left",)) == {
        "a/left": ("/robot1/a/left/image", "/robot1/a/left/camera_info")
    }


@pytest.mark.parametrize("transport, suffix", [("raw", ""), ("compressed", "/compressed")])
def test_a_rig_may_name_them(make_node, transport, suffix):
    assert listened(make_node(), ("front", "rear"), RIG, image_transport=transport) == {
        "front": (f"/front/image{suffix}", "/front/camera_info"),
        "rear": (f"/back/image_rect{suffix}", "/back/camera_info"),
    }


def test_a_remapping_goes_before_the_rig(make_node):
    node = make_node("rear/image:=/cam2/image_raw", "front/camera_info:=/cam1/camera_info")
    assert listened(node, ("front", "rear"), RIG) == {
        "front": ("/front/image", "/cam1/camera_info"), "rear": ("/cam2/image_raw", "/back/camera_info")
    }
