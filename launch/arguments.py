"""Turns the launch files' arguments into parameters and remappings of the node.

It imports neither launch nor tttkd_ros: `ros2 launch` may run without the package's requirements, and the tests without
launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

NOT_GIVEN = "as in params_file"  # default of the arguments, because an empty value has a meaning
EMPTY = ("", "''", '""')  # `ros2 launch` refuses teacher:=, and a shell turns teacher:='' into that
POINTS = "/lidar/points"
DEFAULT_CAMERA = "camera_front"  # the node's, without a rig

NODE_ARGUMENTS = {
    "preset": "driver of the LiDAR: ouster, velodyne, livox, hesai or realsense; its topics and parameters replace "
              "params_file's, and other arguments replace the preset's (config/presets)",
    "points": f"topic of the LiDAR's clouds; by default the preset's, or {POINTS}",
    "cameras": "names of the cameras, separated by commas; \"''\" (with both kinds of quotes) for none",
    "image": "topic of the camera's images, raw or .../compressed; for several cameras one topic each, in their order, "
             "separated by commas",
    "info": "topic of the camera's CameraInfo, likewise; by default camera_info beside the images",
    "rig": "YAML file with every camera's camera_from_lidar; \"''\" to use TF",
    "model": "student checkpoint",
    "teacher": "teacher's folder (timm layout) or hub name; \"''\" to segment only, never adapt",
}


def plan(given: Mapping[str, str], config: Path) -> tuple[dict[str, object], dict[str, str]]:
    """Make the node's parameters, which replace those of params_file, and its remappings of topics.

    Args:
        given: values of `NODE_ARGUMENTS` and of params_file; those that are `NOT_GIVEN` may be missing.
        config: folder of the shipped configuration.

    Raises:
        ValueError: naming the argument, its value and what was expected.
    """
    given = {name: "" if value in EMPTY else value for name, value in given.items() if value != NOT_GIVEN}
    preset = _preset(given.get("preset", ""), config / "presets")
    parameters = dict(preset.get("parameters") or {})
    parameters |= {name: given[name] for name in ("rig", "model", "teacher") if name in given}
    if "cameras" in given:
        parameters["cameras"] = _words(given["cameras"]) or [""]
    topics = dict(preset.get("topics") or {})
    topics |= {name: given[name] for name in ("points", "image", "info") if name in given}
    remappings = {"points": topics["points"]} if topics.get("points") else {}
    cameras = _cameras(given.get("params_file", ""), parameters, config)
    if not cameras and not given.keys() & {"image", "info"}:
        return parameters, remappings  # without the preset's camera
    images, infos = (_topics(name, topics.get(name, ""), cameras) for name in ("image", "info"))
    if images:
        compressed = [topic.endswith("/compressed") for topic in images]
        if any(compressed) != all(compressed):
            raise ValueError(f"image is {','.join(images)!r}, expected all raw or all compressed")
        if any(compressed):
            parameters["image_transport"] = "compressed"
    images = [topic.removesuffix("/compressed") for topic in images]
    for camera, image in zip(cameras, images, strict=False):
        remappings |= {f"{camera}/image": image, f"{camera}/image/compressed": f"{image}/compressed"}
    for camera, info in zip(cameras, infos or [f"{namespace(topic)}/camera_info" for topic in images], strict=False):
        remappings[f"{camera}/camera_info"] = info
    return parameters, remappings


def namespace(image: str) -> str:
    """An image topic's namespace, which holds its CameraInfo; without the first slash, a bag's name of the camera."""
    return image.removesuffix("/compressed").rpartition("/")[0]


def camera_names(images: str) -> str:
    """Replay's names of the cameras with these image topics, as the argument `cameras`."""
    return ",".join(namespace(topic).strip("/") for topic in _words(images))


def fast_dds(config: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that name the shipped profile to Fast DDS, as `tttkd_ros.fastdds.use_profile` sets."""
    variable, older = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"
    chosen = [name for name in (variable, older, "FASTDDS_BUILTIN_TRANSPORTS") if name in environment]
    files = [Path(name) for name in ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")]
    other = "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "fastrtps")
    if other or chosen or any(file.exists() for file in files):
        return {}
    reads_older = environment.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return {older if reads_older else variable: str(config / "dds" / "fastdds.xml")}


def _preset(name: str, folder: Path) -> dict:
    if not name:
        return {}
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ValueError(f"preset is {name!r}, expected one of {', '.join(known)}")
    return yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _topics(name: str, text: str, cameras: list[str]) -> list[str]:
    found = _words(text)
    if found and len(found) != len(cameras):
        expected = f"the cameras {', '.join(cameras)}, in this order" if cameras else "cameras, and there are none"
        raise ValueError(f"{name} is {text!r}, expected one topic for each of {expected}: cameras:=... names them")
    return found


def _cameras(params_file: str, parameters: Mapping[str, object], config: Path) -> list[str]:
    """The node's cameras: the given ones, or else the file's; the rig's if they are [auto] or not set."""
    in_file = _parameters(Path(params_file))
    cameras = parameters.get("cameras", in_file.get("cameras"))
    if cameras is not None and cameras != ["auto"]:
        return [camera for camera in cameras if camera]
    rig = parameters.get("rig", in_file.get("rig"))
    if rig:
        paths = (Path(rig).expanduser(), config.parent / rig)
        return list(next((_yaml(path).get("cameras") for path in paths if path.is_file()), None) or [DEFAULT_CAMERA])
    return [DEFAULT_CAMERA]


def _parameters(file: Path) -> dict:
    """The node's parameters in a file. The node itself reports a malformed one."""
    found = {}
    for name, section in _yaml(file).items():
        if name.strip("/") in ("**", "segmenter") and isinstance(section, dict):
            found |= section.get("ros__parameters") or {}
    return found


def _yaml(file: Path) -> dict:
    try:
        read = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return read if isinstance(read, dict) else {}
