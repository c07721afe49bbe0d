"""The cameras' names, topics and extrinsics, from the parameters, a rig and remappings."""

from __future__ import annotations

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from tttkd_ros.geometry.rig import RigCamera  # noqa: E402
from tttkd_ros.ros.camera_setup import RigExtrinsics, choose_extrinsics, resolve_camera_topics, with_cameras  # noqa: E402
from tttkd_ros.ros.settings import Settings  # noqa: E402
from tttkd_ros.ros.tf_lookup import TfTransforms  # noqa: E402

RIG = {"front": RigCamera(np.eye(4)), "rear": RigCamera(np.eye(4), topic="/back/image_rect")}
FRONT = {"front": "/front/image"}


@pytest.mark.parametrize("cameras, rig, expected", [
    (("auto",), RIG, ("front", "rear")), (("auto",), None, ("camera_front",)), (("rear",), RIG, ("rear",)),
    ((), RIG, ()), (("camera_front",), RIG, ("camera_front",)),
])  # fmt: skip
def test_by_default_the_cameras_are_the_rigs(cameras, rig, expected):
    assert with_cameras(Settings(cameras=cameras), rig).cameras == expected


@pytest.mark.parametrize("offsets, fit", [((), True), ((0.1, 0.2), True), ((0.1,), False), ((0.1, 0.2, 0.3), False)])
def test_offsets_must_fit_the_cameras_of_the_rig(offsets, fit):
    settings = Settings(offsets=offsets)
    if fit:
        assert with_cameras(settings, RIG).offsets == offsets
    else:
        with pytest.raises(ValueError, match="matching.offsets.*as many as cameras .2."):
            with_cameras(settings, RIG)


def topics(node, cameras, rig=None, **options):
    return {name: tuple(topics) for name, topics in
            resolve_camera_topics(node, Settings(cameras=cameras, **options), rig).items()}


def test_a_cameras_topics_have_its_name_in_the_nodes_namespace(make_bare_node):
    assert topics(make_bare_node(namespace="robot1"), ("a/left",)) == {
        "a/left": ("/robot1/a/left/image", "/robot1/a/left/camera_info")
    }


@pytest.mark.parametrize("transport, suffix", [("raw", ""), ("compressed", "/compressed")])
def test_a_rig_may_name_the_topics(make_bare_node, transport, suffix):
    assert topics(make_bare_node(), ("front", "rear"), RIG, image_transport=transport) == {
        "front": (f"/front/image{suffix}", "/front/camera_info"),
        "rear": (f"/back/image_rect{suffix}", "/back/camera_info"),
    }


def test_a_remapping_takes_precedence_over_the_rig(make_bare_node):
    node = make_bare_node("-r", "rear/image:=/cam2/image_raw", "-r", "front/camera_info:=/cam1/camera_info")
    assert topics(node, ("front", "rear"), RIG) == {
        "front": ("/front/image", "/cam1/camera_info"), "rear": ("/cam2/image_raw", "/back/camera_info")
    }


def test_a_rig_takes_precedence_over_tf():
    assert choose_extrinsics(FRONT, RIG, object()).rig("front") is RIG["front"]
    assert isinstance(choose_extrinsics(FRONT, None, object()), TfTransforms)


def test_an_entry_of_the_rig_may_belong_to_a_camera_by_its_topic():
    assert choose_extrinsics({"behind": "/back/image_rect/compressed"}, RIG, None).rig("behind") is RIG["rear"]


@pytest.mark.parametrize(
    "name, topic", [("right", "/right/image"), ("left", "/left/image_raw"), ("a/b", "/a/b/image")]
)
def test_a_rig_that_lacks_a_camera_is_refused_with_those_it_has(name, topic):
    with pytest.raises(ValueError, match=f"has no camera {name} .{topic}.; it has front, rear"):
        choose_extrinsics(FRONT | {name: topic}, RIG, None)


def test_neither_rig_nor_tf_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no rig file given .*no tf2_ros .*name a rig file"):
        choose_extrinsics(FRONT, None, None)


def test_without_cameras_neither_rig_nor_tf_is_needed():
    assert isinstance(choose_extrinsics({}, None, None), RigExtrinsics)
