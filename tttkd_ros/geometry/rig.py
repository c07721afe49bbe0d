"""Rig files: where the cameras sit on the vehicle, their intrinsics, which go before the published CameraInfo, and
which way the LiDAR is mounted.

    base_from_lidar: {translation: [x, y, z], rotation: [x, y, z, w]}   # optional: for a LiDAR that is not level
    cameras:
      camera_front:                 # the camera's name, its namespace (/front) or its image topic (/front/image_raw)
        topic: /front/image_raw     # optional: the image topic, if the name does not say it
        camera_from_lidar: {translation: [x, y, z], rotation: [x, y, z, w]}   # or {matrix: 4 rows of 4}
        camera_info: {width: .., height: .., k: [9], d: [..], distortion_model: plumb_bob}   # optional
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import transform, validated
from tttkd_ros.names import base_topic, is_rectified, parse_camera

MOST_VALUES = 100_000  # in a file: a camera has some thirty


@dataclass(frozen=True, eq=False)
class RigCamera:
    """camera_from_lidar: (4, 4) float64, into the optical frame of the image itself, so that neither the fourth column
    of a CameraInfo's P nor its R is applied. camera: None if CameraInfo is to tell it. topic: the image topic, if the
    file names it.
    """

    camera_from_lidar: np.ndarray
    camera: CameraModel | None = None
    topic: str | None = None

    def belongs_to(self, name: str, camera: str, topic: str) -> bool:
        """Whether this entry, of that name, is that of a camera with that name and image topic.

        An entry for rectified images does not give its intrinsics to raw ones, or the other way round.
        """
        topic = base_topic(topic)
        if self.topic is not None and self.topic.strip("/") == topic.strip("/"):
            return True
        if self.topic is not None and self.camera is not None and is_rectified(self.topic) != is_rectified(topic):
            return False
        return name in (camera, topic.strip("/"))


def load_rig(path: str | Path) -> dict[str, RigCamera]:
    """The cameras by name, without slashes around it: that of its namespace if the file has an image topic instead.

    Raises ValueError naming the file, the camera and what is wrong with it.
    """
    content = _content(path)
    cameras = content.get("cameras", {} if "base_from_lidar" in content else None)
    if not isinstance(cameras, dict):
        raise ValueError(f"rig {path} has no mapping 'cameras' from a camera's name to its place")
    rig = {}
    for key, entry in cameras.items():
        try:
            name, topic = parse_camera(str(key))
            if name in rig:
                raise ValueError(f"a camera {name!r} is there already: give each camera one entry")
            rig[name] = _camera(entry, topic)
        except (ValueError, TypeError, OverflowError) as error:  # what is no number, or too large for one
            raise ValueError(f"rig {path}, camera {key!r}: {error}") from error
    return rig


def load_base_from_lidar(path: str | Path) -> np.ndarray | None:
    """(4, 4) float64, from the LiDAR frame to one whose z axis points up; None if the file does not give it.

    Raises ValueError naming the file and what is wrong with it.
    """
    place = _content(path).get("base_from_lidar")
    try:
        return None if place is None else _transform(place, "base_from_lidar")
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"rig {path}, base_from_lidar: {error}") from error


def match_cameras(rig: Mapping[str, RigCamera], cameras: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Which entry of a rig is which camera's.

    cameras: name -> image topic. Returns camera -> the entry's name, and the entries that are no camera's. Raises
    ValueError if two entries are the same camera's.
    """
    found: dict[str, str] = {}
    unknown = []
    for name, entry in rig.items():
        owners = [camera for camera, topic in cameras.items() if entry.belongs_to(name, camera, topic)]
        for camera in owners:
            if camera in found:
                raise ValueError(f"both {found[camera]} and {name} of the rig are camera {camera} ({cameras[camera]}): "
                                 "remove one of them")
            found[camera] = name
        if not owners:
            unknown.append(name)
    return found, unknown


def save_rig(path: str | Path, rig: dict[str, RigCamera]) -> None:
    """Writes what `load_rig` reads back exactly."""
    cameras = {}
    for name, entry in rig.items():
        cameras[name] = {"camera_from_lidar": {"matrix": entry.camera_from_lidar.tolist()}}
        if entry.topic is not None:
            cameras[name]["topic"] = entry.topic
        if entry.camera is not None:
            model = entry.camera
            cameras[name]["camera_info"] = {
                "width": model.width, "height": model.height, "k": model.matrix.ravel().tolist(),
                "d": list(model.distortion), "distortion_model": model.distortion_model,
            }
    Path(path).write_text(yaml.safe_dump({"cameras": cameras}, sort_keys=False, default_flow_style=None))


def _content(path: str | Path) -> dict:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no rig file at {path}: name one such as config/rigs/kitti.yaml")
    try:
        content = yaml.safe_load(path.read_text())
    except Exception as error:  # PyYAML lets out what making its values raises, not only its own errors
        raise ValueError(f"rig {path} is not YAML: {error!r}") from error
    if _exceeds(content, MOST_VALUES):
        raise ValueError(f"rig {path} has more than {MOST_VALUES} values, counting each alias as what it stands for")
    return content if isinstance(content, dict) else {}


def _transform(place: Any, name: str) -> np.ndarray:
    """(4, 4)"""
    place = _mapping(place, name)
    if "matrix" in place:
        return validated(place["matrix"])
    if {"translation", "rotation"} <= place.keys():
        return transform(place["translation"], place["rotation"])
    raise ValueError(f"{name} has {', '.join(map(str, place)) or 'nothing'}; "
                     "expected 'matrix', or 'translation' and 'rotation'")


def _camera(entry: Any, topic: str | None) -> RigCamera:
    """topic: the image topic, if the entry's name is one."""
    matrix = _transform(_mapping(entry, "camera").get("camera_from_lidar"), "camera_from_lidar")
    if entry.get("topic") is not None:
        if not isinstance(entry["topic"], str) or not entry["topic"].strip("/"):
            raise ValueError(f"topic is {entry['topic']!r}, expected the name of its image topic")
        topic = base_topic(f"/{entry['topic'].strip('/')}")
    if entry.get("camera_info") is None:
        return RigCamera(matrix, topic=topic)
    info = _mapping(entry["camera_info"], "camera_info")
    missing = {"width", "height", "k"} - info.keys()
    if missing:
        raise ValueError(f"camera_info lacks {', '.join(sorted(missing))}")
    model = CameraModel.from_info(SimpleNamespace(**({"d": [], "distortion_model": ""} | info)))
    return RigCamera(matrix, model, topic)


def _mapping(value: Any, name: str) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}, expected a mapping")
    return value


def _exceeds(content: Any, most: int) -> bool:
    """Whether a tree has more values than that; aliases in a few lines of YAML can make it one without end."""
    waiting = [content]
    for _ in range(most):
        if not waiting:
            return False
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
    return bool(waiting)
