"""nuScenes: the keyframes of one scene, HDL-32E sweeps with six cameras, and lidarseg's labels if they are there.

<folder>/v1.0-*/ holds the tables, samples/ the files. Sensors keep their own stamps, and the vehicle's pose is known at
each. The LiDAR's axes are x right, y forward and z up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from os.path import isfile
from pathlib import Path, PurePosixPath

import numpy as np

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets import recording
from tttkd_ros.datasets.class_maps import ClassMap
from tttkd_ros.datasets.recording import RecordedSweep, log
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.transforms import inverse, transform

LIDAR, CAMERA = "LIDAR_TOP", "CAM_"
SECTION = "nuscenes"  # of a class set
MICROSECOND = 1000  # nanoseconds
BLOCK_SIZE = 2**20  # characters of a table that are read at a time
REMEDY = "unpack the metadata of the data set here"
COLUMNS = {
    "scene": ("token", "name"),
    "sample": ("token", "timestamp", "scene_token"),
    "sample_data": ("token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "timestamp", "is_key_frame",
                    "filename"),
    "calibrated_sensor": ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"),
    "sensor": ("token", "channel"),
    "ego_pose": ("token", "translation", "rotation"),
    "lidarseg": ("sample_data_token", "filename"),
    "category": ("name",),
}  # fmt: skip
TYPES = {"timestamp": int, "is_key_frame": bool, "translation": list, "rotation": list, "camera_intrinsic": list}


def scenes(folder: Path) -> list[str]:
    """The names of all scenes ("scene-0061"). Raises ValueError if there are no tables, or they are damaged."""
    return sorted(row["name"] for row in _rows(_tables(folder) / "scene.json"))


def open_recording(folder: Path, scene: str | None = None, class_set: ClassSet | None = OUTDOOR) -> NuScenes:
    """Open the scene of that name, or the only one, of a folder with v1.0-*/ and samples/.

    Raises ValueError if a table is missing or damaged, an image does not match its calibration, or the class set does
    not cover nuScenes.
    """
    return NuScenes(folder, scene, class_set)


class NuScenes:
    """One scene. Only its rows of the tables are kept."""

    def __init__(self, folder: Path, scene: str | None, class_set: ClassSet | None):
        self._folder = folder
        self._tables = _tables(folder)
        tokens = {row["name"]: row["token"] for row in _rows(self._tables / "scene.json")}
        token = recording.choose_drive(self._tables, scene, tokens, "scene", "rows in scene.json")
        samples = self._rows("sample", "scene_token", {token})
        data = self._rows("sample_data", "sample_token", {row["token"] for row in samples})
        data = [row for row in data if row["is_key_frame"]]
        calibrations = self._by_token("calibrated_sensor", {row["calibrated_sensor_token"] for row in data})
        sensors = self._by_token("sensor", {row["sensor_token"] for row in calibrations.values()})
        self._vehicle_from_sensor = self._poses("calibrated_sensor", calibrations)
        self._intrinsics = {key: row["camera_intrinsic"] for key, row in calibrations.items()}
        ego_poses = self._by_token("ego_pose", {row["ego_pose_token"] for row in data})
        self._map_from_vehicle = self._poses("ego_pose", ego_poses)
        channels: dict[str, dict[str, dict]] = {row["token"]: {} for row in samples}
        for row in data:
            channel = sensors[calibrations[row["calibrated_sensor_token"]]["sensor_token"]]["channel"]
            if channel == LIDAR or channel.startswith(CAMERA):
                channels[row["sample_token"]][channel] = row
        keyframes = [channels[row["token"]] for row in sorted(samples, key=lambda row: row["timestamp"])]
        self._keyframes = [keyframe for keyframe in keyframes if LIDAR in keyframe]
        if not self._keyframes:
            raise ValueError(f"{self._tables} has no sweep of {LIDAR} in scene {scene!r}: {REMEDY}")
        for channel in sorted(self._keyframes[0].keys() - {LIDAR}):
            row = self._keyframes[0][channel]
            if isfile(self._file("sample_data", row["filename"])):
                self._view(channel, row, np.eye(4))  # refuses an image that does not match, before a bag is written
        channels = {channel for keyframe in self._keyframes for channel in keyframe.keys() - {LIDAR}}
        self.cameras = tuple(_name(channel) for channel in sorted(channels))
        self._labels, self._class_map = self._lidarseg(
            {keyframe[LIDAR]["token"] for keyframe in self._keyframes}, class_set
        )
        names = self._class_map and self._class_map.names
        self.class_set = self._class_map and class_set
        poses = [[token, pose.tolist()] for table in (self._vehicle_from_sensor, self._map_from_vehicle)
                 for token, pose in table.items()]
        tables = json.dumps([[self._keyframes, self._labels, self._intrinsics, names], poses], sort_keys=True)
        self.inputs = {"labels": names is not None, "tables": hashlib.sha256(tables.encode()).hexdigest()}

    def __len__(self) -> int:
        return len(self._keyframes)

    def __getitem__(self, index: int) -> RecordedSweep:
        keyframe = self._keyframes[index]
        lidar = keyframe[LIDAR]
        points = recording.read_sweep(self._file("sample_data", lidar["filename"]), columns=5)
        vehicle_from_lidar = self._vehicle_from_sensor[lidar["calibrated_sensor_token"]]
        views, images = [], {}
        for channel in sorted(keyframe.keys() - {LIDAR}):
            view, images[view.name] = self._view(channel, keyframe[channel], vehicle_from_lidar)
            views.append(view)
        poses = {row["timestamp"] * MICROSECOND: self._map_from_vehicle[row["ego_pose_token"]] @ vehicle_from_lidar
                 for row in keyframe.values()}
        labels = self._truth(lidar["token"], len(points))
        stamp = lidar["timestamp"] * MICROSECOND
        frame = Frame(stamp, points[:, :3].copy(), tuple(views), {"intensity": points[:, 3].copy()}, labels)
        return RecordedSweep(frame, images, sorted(poses.items()))

    def _view(self, channel: str, row: dict, vehicle_from_lidar: np.ndarray) -> tuple[View, bytes]:
        """The view, and its image file."""
        path = self._file("sample_data", row["filename"])
        try:
            intrinsics = np.array(self._intrinsics[row["calibrated_sensor_token"]], np.float64).reshape(3, 3)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{self._tables}/calibrated_sensor.json has no 3x3 camera_intrinsic for {channel}: "
                             f"{REMEDY}") from error
        size = row.get("width"), row.get("height")
        size = size if all(type(side) is int and side > 0 for side in size) else None
        content, image, camera = recording.read_calibrated(path, intrinsics, size, "unpack the original images")
        camera_from_lidar = inverse(self._vehicle_from_sensor[row["calibrated_sensor_token"]]) @ vehicle_from_lidar
        return View(_name(channel), row["timestamp"] * MICROSECOND, image, camera, camera_from_lidar), content

    def _truth(self, token: str, size: int) -> np.ndarray | None:
        if self._class_map is None:
            return None
        if token not in self._labels:
            raise ValueError(f"{self._tables}/lidarseg.json has no labels for sweep {token}: unpack nuScenes-lidarseg "
                             "again")
        path = self._file("lidarseg", self._labels[token])
        labels = recording.read_label_file(path, "u1", size)
        try:
            return self._class_map(labels)
        except ValueError as error:
            raise ValueError(f"{path}: {error} in {self._tables}/category.json: unpack nuScenes-lidarseg "
                             "again") from error

    def _file(self, table: str, name: str) -> Path:
        """The file that a table names, which must lie in the data set's folder."""
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{self._tables / table}.json names the file {name!r}, which is not in {self._folder}: "
                             "fetch the table again")
        return self._folder / name

    def _lidarseg(self, sweeps: Collection[str], class_set: ClassSet | None) -> tuple[dict[str, str], ClassMap | None]:
        """Token of a sweep -> its label file, and the map from labels to classes."""
        if class_set is None:
            return {}, None
        if not (self._tables / "lidarseg.json").is_file():
            log.warning("%s has no lidarseg.json (nuScenes-lidarseg): the bag has no truth", self._tables)
            return {}, None
        labels = {row["sample_data_token"]: row["filename"]
                  for row in self._rows("lidarseg", "sample_data_token", sweeps)}
        categories = list(_rows(self._tables / "category.json"))
        if not categories or not all(row.get("index") in range(256) for row in categories):
            raise ValueError(f"{self._tables}/category.json has no indices: unpack nuScenes-lidarseg's own over it")
        return labels, ClassMap({row["index"]: row["name"] for row in categories}, SECTION, class_set)

    def _poses(self, table: str, rows: dict[str, dict]) -> dict[str, np.ndarray]:
        """Token -> (4, 4) parent from child. nuScenes writes quaternions w x y z."""
        poses = {}
        for token, row in rows.items():
            try:
                w, x, y, z = row["rotation"]
                poses[token] = transform(row["translation"], (x, y, z, w))
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{self._tables / table}.json, {token}: {error}; {REMEDY}") from error
        return poses

    def _rows(self, table: str, key: str, values: Collection[str]) -> list[dict]:
        return [row for row in _rows(self._tables / f"{table}.json") if row[key] in values]

    def _by_token(self, table: str, tokens: Collection[str]) -> dict[str, dict]:
        rows = {row["token"]: row for row in self._rows(table, "token", tokens)}
        missing = sorted(set(tokens) - set(rows))
        if missing:
            raise ValueError(f"{self._tables / table}.json lacks {len(missing)} rows that others name, such as "
                             f"{missing[0]}: {REMEDY}")
        return rows


def _name(channel: str) -> str:
    """The name of a camera's view."""
    return "camera_" + channel.removeprefix(CAMERA).lower()


def _tables(folder: Path) -> Path:
    """The folder of the tables."""
    found = sorted(path.parent for path in folder.glob("v1.0-*/scene.json"))
    if len(found) != 1:
        raise ValueError(f"{folder} has {len(found)} folders v1.0-*/ with a scene.json, expected one: "
                         + ("move the others away" if found else REMEDY))
    return found[0]


def _rows(path: Path) -> Iterator[dict]:
    """The objects of a JSON list, read piece by piece: such files may have gigabytes."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: {REMEDY}")
    columns = COLUMNS[path.stem]
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8", errors="replace") as file:
        text, at = file.read(BLOCK_SIZE).lstrip().removeprefix("["), 0
        while True:
            while text[at : at + 1] in (",", " ", "\t", "\r", "\n"):
                at += 1
            if text[at : at + 1] == "]":
                return
            try:
                row, end = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as error:
                block = file.read(BLOCK_SIZE)
                if not block or len(text) - at > BLOCK_SIZE:
                    raise ValueError(f"{path} is cut short or no table of nuScenes: {REMEDY}") from error
                text, at = text[at:] + block, 0
                continue
            if not isinstance(row, dict) or not set(columns) <= row.keys():
                raise ValueError(f"{path} has a row without all of {', '.join(columns)}: {REMEDY}")
            for name in columns:
                kind = TYPES.get(name, str)
                if type(row[name]) is not kind:
                    raise ValueError(f"{path} has a row whose {name} is {row[name]!r}, no {kind.__name__}: {REMEDY}")
            yield row
            at = end
