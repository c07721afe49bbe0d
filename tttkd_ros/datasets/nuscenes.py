"""nuScenes: the keyframes of one scene, HDL-32E sweeps with six cameras, and lidarseg's labels if they are there.

<folder>/v1.0-*/ holds the tables, samples/ the files. Sensors keep their own stamps, and the vehicle's pose is known at
each. The LiDAR's axes are x right, y forward and z up.
"""

from __future__ import annotations

import hashlib
import json
from os.path import isfile
from pathlib import Path, PurePosixPath

import numpy as np

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets import recording
from tttkd_ros.datasets.class_maps import ClassMap
from tttkd_ros.datasets.nuscenes_tables import CAMERA, LIDAR, REMEDY, Place, SensorFile, open_tables
from tttkd_ros.datasets.recording import RecordedSweep, log
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.transforms import inverse, transform

SECTION = "nuscenes"  # of a class set
MICROSECOND = 1000  # nanoseconds


def scenes(folder: Path) -> list[str]:
    """The names of all scenes ("scene-0061"). Raises ValueError if there are no tables, or they are damaged."""
    return sorted(open_tables(folder).scenes)


def open_recording(folder: Path, scene: str | None = None, class_set: ClassSet | None = OUTDOOR) -> NuScenes:
    """Open the scene of that name, or the only one, of a folder with v1.0-*/ and samples/.

    Raises ValueError if a table is missing or damaged, an image does not match its calibration, or the class set does
    not cover nuScenes.
    """
    return NuScenes(folder, scene, class_set)


class NuScenes:
    """One scene. Its rows of the tables are shared by all scenes of the process."""

    def __init__(self, folder: Path, scene: str | None, class_set: ClassSet | None):
        self._folder = folder
        tables = open_tables(folder)
        self._tables = tables.folder
        token = recording.choose_drive(self._tables, scene, tables.scenes, "scene", "rows in scene.json")
        self._keyframes = [files for files in tables.keyframes.get(token, ()) if LIDAR in files]
        if not self._keyframes:
            raise ValueError(f"{self._tables} has no sweep of {LIDAR} in scene {scene!r}: {REMEDY}")
        files = [file for keyframe in self._keyframes for file in keyframe.values()]
        sensors = {file.sensor.token: file.sensor.place for file in files}
        ego_poses = {file.ego_pose: tables.ego_poses[file.ego_pose] for file in files}
        self._vehicle_from_sensor = self._poses("calibrated_sensor", sensors)
        self._map_from_vehicle = self._poses("ego_pose", ego_poses)
        for channel, file in sorted(self._keyframes[0].items()):
            if channel != LIDAR and isfile(self._file("sample_data", file.filename)):
                self._view(file, np.eye(4))  # refuses an image that does not match, before a bag is written
        channels = {channel for keyframe in self._keyframes for channel in keyframe.keys() - {LIDAR}}
        self.cameras = tuple(_name(channel) for channel in sorted(channels))
        self._class_map, self._labels = None, {}
        if class_set is not None and tables.label_files is None:
            log.warning("%s has no lidarseg.json (nuScenes-lidarseg): the bag has no truth", self._tables)
        elif class_set is not None:
            self._class_map = ClassMap(tables.categories, SECTION, class_set)
            sweeps = (keyframe[LIDAR].token for keyframe in self._keyframes)
            self._labels = {sweep: tables.label_files[sweep] for sweep in sweeps if sweep in tables.label_files}
        self.class_set = self._class_map and class_set
        names = self._class_map and self._class_map.names
        poses = [[token, pose.tolist()] for table in (self._vehicle_from_sensor, self._map_from_vehicle)
                 for token, pose in table.items()]
        used = json.dumps([self._keyframes, self._labels, names, poses], sort_keys=True)
        self.inputs = {"labels": names is not None, "tables": hashlib.sha256(used.encode()).hexdigest()}

    def __len__(self) -> int:
        return len(self._keyframes)

    def __getitem__(self, index: int) -> RecordedSweep:
        keyframe = self._keyframes[index]
        lidar = keyframe[LIDAR]
        points = recording.read_sweep(self._file("sample_data", lidar.filename), columns=5)
        vehicle_from_lidar = self._vehicle_from_sensor[lidar.sensor.token]
        views, images = [], {}
        for channel in sorted(keyframe.keys() - {LIDAR}):
            view, images[view.name] = self._view(keyframe[channel], vehicle_from_lidar)
            views.append(view)
        poses = {file.timestamp * MICROSECOND: self._map_from_vehicle[file.ego_pose] @ vehicle_from_lidar
                 for file in keyframe.values()}
        labels = self._truth(lidar.token, len(points))
        stamp = lidar.timestamp * MICROSECOND
        frame = Frame(stamp, points[:, :3].copy(), tuple(views), {"intensity": points[:, 3].copy()}, labels)
        return RecordedSweep(frame, images, sorted(poses.items()))

    def _view(self, file: SensorFile, vehicle_from_lidar: np.ndarray) -> tuple[View, bytes]:
        """The view, and its image file."""
        channel = file.sensor.channel
        path = self._file("sample_data", file.filename)
        try:
            intrinsics = np.array(file.sensor.intrinsics, np.float64).reshape(3, 3)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{self._tables}/calibrated_sensor.json has no 3x3 camera_intrinsic for {channel}: "
                             f"{REMEDY}") from error
        content, image, camera = recording.read_calibrated(path, intrinsics, file.size, "unpack the original images")
        camera_from_lidar = inverse(self._vehicle_from_sensor[file.sensor.token]) @ vehicle_from_lidar
        return View(_name(channel), file.timestamp * MICROSECOND, image, camera, camera_from_lidar), content

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

    def _poses(self, table: str, places: dict[str, Place]) -> dict[str, np.ndarray]:
        """Token -> (4, 4) parent from child. nuScenes writes quaternions w x y z."""
        poses = {}
        for token, (translation, rotation) in places.items():
            try:
                w, x, y, z = rotation
                poses[token] = transform(translation, (x, y, z, w))
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{self._tables / table}.json, {token}: {error}; {REMEDY}") from error
        return poses


def _name(channel: str) -> str:
    """The name of a camera's view."""
    return "camera_" + channel.removeprefix(CAMERA).lower()
