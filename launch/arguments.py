"""What the launch files make of their arguments.

It knows neither launch nor tttkd_ros: `ros2 launch` may run where the package's requirements are missing, and its tests
where launch is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

NOT_GIVEN = "as in params_file"  # the default of arguments whose empty value means something
EMPTY = ("", "''", '""')  # `ros2 launch` refuses teacher:= and teacher:='', which a shell makes the same of
POINTS = "/lidar/points"
CAMERA = "camera_front"  # the node's without a word about cameras

NODE_ARGUMENTS = {
    "preset": "driver of the LiDAR: ouster, velodyne, livox, hesai or realsense; its topics and parameters replace "
              "params_file's, and the arguments replace them (config/presets)",
    "points": f"topic of the LiDAR's clouds; if not given, as in the preset, or {POINTS}",
    "cameras": "names of the cameras, with commas between; \"''\" (with both kinds of quotes) for none",
    "image": "topic of the camera's images, raw or .../compressed; of several cameras their topics in the order of "
             "cameras, with commas between",
    "info": "topic of the camera's CameraInfo, likewise; if not given, camera_info beside the images",
    "rig": "YAML file with every camera's camera_from_lidar; \"''\" looks it up in TF",
    "model": "student checkpoint",
    "teacher": "teacher's directory (transformers layout); \"''\" segments only, never adapts",
}


def plan(given: Mapping[str, str], config: Path) -> tuple[dict[str, object], dict[str, str]]:
    """The node's parameters that replace those of params_file, and its topics -> those to take in their place.

    given: values of `NODE_ARGUMENTS` and of params_file; what is `NOT_GIVEN` may be left out. config: the folder of
    the shipped configuration. Raises ValueError naming the argument, its value and what was expected.
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
        return parameters, remappings  # a preset's camera is not asked for
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
    """That of an image topic, in which its CameraInfo lies; without the first slash it names the camera of a bag."""
    return image.removesuffix("/compressed").rpartition("/")[0]


def named(images: str) -> str:
    """For the argument `cameras`: what replay calls the cameras of these image topics."""
    return ",".join(namespace(topic).strip("/") for topic in _words(images))


def fast_dds(config: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that name the shipped profile to Fast DDS; as `tttkd_ros.fastdds.use_profile`."""
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
    """The node's cameras: what is given, or else in its file; those of the rig if that leaves it to it."""
    in_file = _parameters(Path(params_file))
    cameras = parameters.get("cameras", in_file.get("cameras"))
    if cameras is not None and cameras != ["auto"]:
        return [camera for camera in cameras if camera]
    rig = parameters.get("rig", in_file.get("rig"))
    if rig:
        paths = (Path(rig).expanduser(), config.parent / rig)
        return list(next((_yaml(path).get("cameras") for path in paths if path.is_file()), None) or [CAMERA])
    return [CAMERA]


def _parameters(file: Path) -> dict:
    """Of the node, in a parameter file. One that is not well-formed is the node's to complain about."""
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
