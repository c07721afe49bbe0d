"""What the launch files make of their arguments, without launch."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
ARGUMENTS = runpy.run_path(str(ROOT / "launch" / "arguments.py"))
NOT_GIVEN, PRESETS = ARGUMENTS["NOT_GIVEN"], sorted(path.stem for path in (CONFIG / "presets").glob("*.yaml"))


def plan(**given):
    return ARGUMENTS["plan"](given, CONFIG)


def test_what_is_not_given_changes_nothing():
    assert plan(**dict.fromkeys(ARGUMENTS["NODE_ARGUMENTS"], NOT_GIVEN)) == ({}, {})


@pytest.mark.parametrize(
    ("given", "parameters"),
    [({"teacher": ""}, {"teacher": ""}), ({"teacher": "''"}, {"teacher": ""}), ({"rig": '""'}, {"rig": ""}),
     ({"cameras": ""}, {"cameras": [""]}), ({"cameras": "''"}, {"cameras": [""]}),
     ({"cameras": "front, rear"}, {"cameras": ["front", "rear"]}), ({"model": "mine", "rig": "r.yaml"},
     {"model": "mine", "rig": "r.yaml"})],
)
def test_what_is_given_replaces_the_parameter_even_if_it_is_empty(given, parameters):
    assert plan(**given)[0] == parameters


def test_one_camera_s_topics_take_the_place_of_the_node_s():
    _, remappings = plan(cameras="front", image="/camera/image_raw", info="/camera/info", points="/scan")
    assert remappings == {
        "points": "/scan", "front/image": "/camera/image_raw", "front/image/compressed": "/camera/image_raw/compressed",
        "front/camera_info": "/camera/info",
    }


def test_several_cameras_topics_are_in_the_order_of_the_cameras():
    _, remappings = plan(cameras="left,right", image="/l/image_raw, /r/image_raw")
    assert (remappings["left/image"], remappings["right/image"]) == ("/l/image_raw", "/r/image_raw")
    assert (remappings["left/camera_info"], remappings["right/camera_info"]) == ("/l/camera_info", "/r/camera_info")


def test_compressed_images_set_the_transport():
    parameters, remappings = plan(cameras="front", image="/camera/image_raw/compressed")
    assert parameters["image_transport"] == "compressed"
    assert remappings["front/image/compressed"] == "/camera/image_raw/compressed"
    assert remappings["front/camera_info"] == "/camera/camera_info"


@pytest.mark.parametrize(
    ("given", "words"),
    [({"cameras": "left,right", "image": "/l/image"}, "image is '/l/image', expected one topic for each of the cameras "
      "left, right, in this order"),
     ({"cameras": "left", "info": "/a/info,/b/info"}, "info is '/a/info,/b/info', expected one topic for each"),
     ({"cameras": "", "image": "/l/image"}, "expected one topic for each of cameras, and there are none"),
     ({"cameras": "l,r", "image": "/l/image,/r/image/compressed"}, "expected all raw or all compressed"),
     ({"preset": "sick"}, "preset is 'sick', expected one of hesai, livox, ouster, realsense, velodyne")],
)
def test_what_does_not_fit_is_told_with_its_value(given, words):
    with pytest.raises(ValueError, match="expected") as refused:
        plan(**given)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("file", "rig", "camera"),
    [("cameras: [front]", None, "front"), ("cameras: [auto]", "port", "port"), ("threads: 1", "port", "port"),
     ("threads: 1", None, "camera_front")],
)
def test_the_cameras_are_those_of_the_file_or_else_of_the_rig(tmp_path, file, rig, camera):
    (tmp_path / "params.yaml").write_text(f"/**:\n  ros__parameters:\n    {file}\n")
    (tmp_path / "rig.yaml").write_text(f"cameras: {{{rig}: {{}}}}\n")
    given = {"rig": str(tmp_path / "rig.yaml")} if rig else {}
    _, remappings = plan(params_file=str(tmp_path / "params.yaml"), image="/camera/image_raw", **given)
    assert remappings[f"{camera}/image"] == "/camera/image_raw"


def test_every_driver_has_a_preset():
    assert PRESETS == ["hesai", "livox", "ouster", "realsense", "velodyne"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_names_the_driver_s_topic_and_arguments_replace_it(preset):
    told = yaml.safe_load((CONFIG / "presets" / f"{preset}.yaml").read_text())
    parameters, remappings = plan(preset=preset, cameras="front")
    assert remappings["points"] == told["topics"]["points"]
    assert parameters == told.get("parameters", {}) | {"cameras": ["front"]}
    assert plan(preset=preset, points="/mine")[1]["points"] == "/mine"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_s_parameters_are_the_node_s(preset):
    known = yaml.safe_load((CONFIG / "segment.yaml").read_text())["/**"]["ros__parameters"]
    parameters, _ = plan(preset=preset)
    assert {name: type(value) for name, value in parameters.items()} == {name: type(known[name]) for name in parameters}


def test_a_depth_camera_s_preset_names_its_images_unless_no_camera_is_asked_for():
    assert plan(preset="realsense", cameras="front")[1]["front/image"] == "/camera/camera/color/image_raw"
    assert plan(preset="realsense", cameras="")[1] == {"points": "/camera/camera/depth/color/points"}


@pytest.mark.parametrize(
    "environment",
    [{}, {"ROS_DISTRO": "humble"}, {"ROS_DISTRO": "kilted"}, {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"},
     {"FASTDDS_DEFAULT_PROFILES_FILE": "/my.xml"}, {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}],
)
def test_launch_names_the_same_profile_to_fast_dds_as_the_node(environment):
    fastdds = pytest.importorskip("tttkd_ros.fastdds")
    by_node = dict(environment)
    fastdds.use_profile(by_node)
    assert environment | ARGUMENTS["fast_dds"](CONFIG, environment) == by_node


def test_replay_s_names_of_cameras():
    assert ARGUMENTS["camera_names"]("/front/image_raw, /rear/image/compressed") == "front,rear"
