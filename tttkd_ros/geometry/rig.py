"""Rig files: where the cameras sit on the vehicle, and their intrinsics where no CameraInfo tells them.

    cameras:
      camera_front:
        camera_from_lidar: {translation: [x, y, z], rotation: [x, y, z, w]}   # or {matrix: 4 rows of 4}
        camera_info: {width: .., height: .., k: [9], d: [..], distortion_model: plumb_bob}   # optional
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import yaml

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import transform, validated

MOST_VALUES = 100_000  # in a file: a camera has some thirty


@dataclass(frozen=True, eq=False)
class RigCamera:
    """camera_from_lidar (4, 4) float64, into the optical frame; camera: None where CameraInfo is to tell it."""

    camera_from_lidar: np.ndarray
    camera: CameraModel | None = None


def load_rig(path: str | Path) -> dict[str, RigCamera]:
    """The cameras by name. Raises ValueError naming the file, the camera and what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no rig file at {path}: name one such as config/rigs/kitti.yaml")
    try:
        content = yaml.safe_load(path.read_text())
    except Exception as error:  # PyYAML lets out what making its values raises, not only its own errors
        raise ValueError(f"rig {path} is not YAML: {error!r}") from error
    if _exceeds(content, MOST_VALUES):
        raise ValueError(f"rig {path} has more than {MOST_VALUES} values, counting each alias as what it stands for")
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, dict):
        raise ValueError(f"rig {path} has no mapping 'cameras' from a camera's name to its place")
    rig = {}
    for name, entry in cameras.items():
        try:
            rig[str(name)] = _camera(entry)
        except (ValueError, TypeError, OverflowError) as error:  # what is no number, or too large for one
            raise ValueError(f"rig {path}, camera {name!r}: {error}") from error
    return rig


def save_rig(path: str | Path, rig: dict[str, RigCamera]) -> None:
    """Writes what `load_rig` reads back exactly."""
    cameras = {}
    for name, entry in rig.items():
        cameras[name] = {"camera_from_lidar": {"matrix": entry.camera_from_lidar.tolist()}}
        if entry.camera is not None:
            model = entry.camera
            cameras[name]["camera_info"] = {
                "width": model.width, "height": model.height, "k": model.matrix.ravel().tolist(),
                "d": list(model.distortion), "distortion_model": model.distortion_model,
            }
    Path(path).write_text(yaml.safe_dump({"cameras": cameras}, sort_keys=False, default_flow_style=None))


def _camera(entry: Any) -> RigCamera:
    place = _mapping(entry, "camera").get("camera_from_lidar")
    place = _mapping(place, "camera_from_lidar")
    if "matrix" in place:
        matrix = validated(place["matrix"])
    elif {"translation", "rotation"} <= place.keys():
        matrix = transform(place["translation"], place["rotation"])
    else:
        raise ValueError(f"camera_from_lidar has {', '.join(map(str, place)) or 'nothing'}; "
                         "expected 'matrix', or 'translation' and 'rotation'")
    if entry.get("camera_info") is None:
        return RigCamera(matrix)
    info = _mapping(entry["camera_info"], "camera_info")
    missing = {"width", "height", "k"} - info.keys()
    if missing:
        raise ValueError(f"camera_info lacks {', '.join(sorted(missing))}")
    return RigCamera(matrix, CameraModel.from_camera_info(
        SimpleNamespace(**({"d": [], "distortion_model": "plumb_bob"} | info))))


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
