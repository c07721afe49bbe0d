"""Rig files: the cameras' poses on the vehicle, optional intrinsics, and how the LiDAR is mounted.

    base_from_lidar: {translation: [x, y, z], rotation: [x, y, z, w]}   # optional: for a LiDAR that is not level
    cameras:
      camera_front:                 # the camera's name, its namespace (/front) or its image topic (/front/image_raw)
        topic: /front/image_raw     # optional: the image topic, if the name does not give it
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
from tttkd_ros.yaml_files import read_yaml


@dataclass(frozen=True, eq=False)
class RigCamera:
    """An entry of a rig.

    camera_from_lidar: (4, 4) float64, into the optical frame of the image itself: neither the fourth column of P nor R
    of a CameraInfo applies. camera: None to use the published CameraInfo. topic: the image topic, if the file has it.
    """

    camera_from_lidar: np.ndarray
    camera: CameraModel | None = None
    topic: str | None = None

    def belongs_to(self, name: str, camera: str, topic: str) -> bool:
        """Whether the entry `name` of the file is that of a camera with this name and image topic.

        Intrinsics of rectified images do not apply to raw images, nor the other way round.
        """
        topic = base_topic(topic)
        if self.topic is not None and self.topic.strip("/") == topic.strip("/"):
            return True
        if self.topic is not None and self.camera is not None and is_rectified(self.topic) != is_rectified(topic):
            return False
        return name in (camera, topic.strip("/"))


def load_rig(path: str | Path) -> dict[str, RigCamera]:
    """The cameras of a rig file by name; an image topic counts as its namespace. Raises ValueError with the problem."""
    content = _load(path)
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
        except (ValueError, TypeError, OverflowError) as error:  # no number, or too large for a float
            raise ValueError(f"rig {path}, camera {key!r}: {error}") from error
    return rig


def load_base_from_lidar(path: str | Path) -> np.ndarray | None:
    """base_from_lidar of a rig file, (4, 4) float64; None if it has none. Raises ValueError with the problem."""
    place = _load(path).get("base_from_lidar")
    try:
        return None if place is None else _transform(place, "base_from_lidar")
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"rig {path}, base_from_lidar: {error}") from error


def save_rig(path: str | Path, rig: Mapping[str, RigCamera]) -> None:
    """Write cameras by name, so that `load_rig` reads them back exactly."""
    cameras = {}
    for name, entry in rig.items():
        cameras[name] = {"camera_from_lidar": {"matrix": entry.camera_from_lidar.tolist()}}
        if entry.topic is not None:
            cameras[name]["topic"] = entry.topic
        if (model := entry.camera) is not None:
            cameras[name]["camera_info"] = {
                "width": model.width, "height": model.height, "k": model.matrix.ravel().tolist(),
                "d": list(model.distortion), "distortion_model": model.distortion_model,
            }
    text = yaml.safe_dump({"cameras": cameras}, sort_keys=False, default_flow_style=None)
    Path(path).write_text(text, encoding="utf-8")


def match_cameras(rig: Mapping[str, RigCamera], cameras: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Match a rig with cameras (camera -> image topic): camera -> name of its entry, and the names of other entries.

    Raises ValueError if two entries match one camera.
    """
    found: dict[str, str] = {}
    unmatched = []
    for name, entry in rig.items():
        owners = [camera for camera, topic in cameras.items() if entry.belongs_to(name, camera, topic)]
        for camera in owners:
            if camera in found:
                raise ValueError(f"both {found[camera]} and {name} of the rig are camera {camera} ({cameras[camera]}): "
                                 "remove one of them")
            found[camera] = name
        if not owners:
            unmatched.append(name)
    return found, unmatched


def _load(path: str | Path) -> dict:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no rig file at {path}: name one such as config/rigs/kitti.yaml")
    content = read_yaml(path, "rig")
    return content if isinstance(content, dict) else {}


def _mapping(value: Any, name: str) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}, expected a mapping")
    return value


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
    if missing := {"width", "height", "k"} - info.keys():
        raise ValueError(f"camera_info lacks {', '.join(sorted(missing))}")
    model = CameraModel.from_info(SimpleNamespace(**({"d": [], "distortion_model": ""} | info)))
    return RigCamera(matrix, model, topic)
