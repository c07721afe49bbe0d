"""The tables of nuScenes. Each is read once in a process, and indexed by scene.

Together they have gigabytes: sample_data and ego_pose have 2.6 million rows each, of which a tenth is of keyframes of
the LiDAR and the cameras. Only those are kept, without the fields that no frame depends on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

LIDAR, CAMERA = "LIDAR_TOP", "CAM_"
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


class Place(NamedTuple):
    """A pose as in the tables, unchecked: metres, and a quaternion w x y z."""

    translation: list
    rotation: list


class Sensor(NamedTuple):
    """A row of calibrated_sensor. place: on the vehicle. intrinsics: 3 rows of 3, unchecked."""

    token: str
    channel: str
    place: Place
    intrinsics: list


class SensorFile(NamedTuple):
    """A row of sample_data. timestamp: in microseconds. size: of an image, (width, height) in pixels, if stated."""

    token: str
    timestamp: int
    filename: str
    sensor: Sensor
    ego_pose: str
    size: tuple[int, int] | None


class Tables:
    """What frames depend on in the tables of a folder v1.0-*/. A table is read when it is first needed.

    Raises ValueError from any attribute whose tables are missing or damaged, or lack a row that others name.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def scenes(self) -> dict[str, str]:
        """Name of a scene -> its token."""
        return {row["name"]: row["token"] for row in self._rows("scene")}

    @cached_property
    def keyframes(self) -> dict[str, list[dict[str, SensorFile]]]:
        """Token of a scene -> its keyframes in order of time: channel -> file, of the LiDAR and the cameras."""
        scenes: dict[str, list[tuple[int, dict[str, SensorFile]]]] = {}
        samples: dict[str, dict[str, SensorFile]] = {}
        for row in self._rows("sample"):
            files = samples.setdefault(row["token"], {})
            scenes.setdefault(row["scene_token"], []).append((row["timestamp"], files))
        sensors, missing = self._sensors, set()
        for row in self._rows("sample_data"):
            if not row["is_key_frame"] or row["sample_token"] not in samples:
                continue
            sensor = sensors.get(row["calibrated_sensor_token"])
            if sensor is None:
                missing.add(row["calibrated_sensor_token"])
            elif sensor.channel == LIDAR or sensor.channel.startswith(CAMERA):
                size = row.get("width"), row.get("height")
                samples[row["sample_token"]][sensor.channel] = SensorFile(
                    row["token"], row["timestamp"], row["filename"], sensor, row["ego_pose_token"],
                    size if all(type(side) is int and side > 0 for side in size) else None,
                )  # fmt: skip
        self._require("calibrated_sensor", missing)
        return {token: [files for _, files in sorted(found, key=itemgetter(0))] for token, found in scenes.items()}

    @cached_property
    def ego_poses(self) -> dict[str, Place]:
        """Token -> place of the vehicle in the map, of all files in `keyframes`."""
        files = (file for scene in self.keyframes.values() for keyframe in scene for file in keyframe.values())
        found: dict[str, Place | None] = {file.ego_pose: None for file in files}
        for row in self._rows("ego_pose"):
            if row["token"] in found:
                found[row["token"]] = Place(row["translation"], row["rotation"])
        self._require("ego_pose", {token for token, place in found.items() if place is None})
        return found

    @cached_property
    def label_files(self) -> dict[str, str] | None:
        """Token of a sweep -> its file of lidarseg; None without that table."""
        if not (self.folder / "lidarseg.json").is_file():
            return None
        return {row["sample_data_token"]: row["filename"] for row in self._rows("lidarseg")}

    @cached_property
    def categories(self) -> dict[int, str]:
        """Label -> name of its class."""
        rows = list(self._rows("category"))
        if not rows or not all(row.get("index") in range(256) for row in rows):
            raise ValueError(f"{self.folder}/category.json has no indices: unpack nuScenes-lidarseg's own over it")
        return {row["index"]: row["name"] for row in rows}

    @cached_property
    def _sensors(self) -> dict[str, Sensor]:
        """Token of a calibrated_sensor -> sensor."""
        channels = {row["token"]: row["channel"] for row in self._rows("sensor")}
        rows = list(self._rows("calibrated_sensor"))
        self._require("sensor", {row["sensor_token"] for row in rows} - channels.keys())
        return {row["token"]: Sensor(row["token"], channels[row["sensor_token"]],
                                     Place(row["translation"], row["rotation"]), row["camera_intrinsic"])
                for row in rows}

    def _rows(self, table: str) -> Iterator[dict]:
        return read_rows(self.folder / f"{table}.json")

    def _require(self, table: str, missing: set[str]) -> None:
        if missing:
            raise ValueError(f"{self.folder / table}.json lacks {len(missing)} rows that others name, such as "
                             f"{min(missing)}: {REMEDY}")


def open_tables(folder: Path) -> Tables:
    """The tables of a data set's folder. Those of the last folders stay in memory until their files change.

    Raises ValueError if there is no folder v1.0-*/ with a scene.json, or several.
    """
    found = sorted(path.parent for path in folder.glob("v1.0-*/scene.json"))
    if len(found) != 1:
        raise ValueError(f"{folder} has {len(found)} folders v1.0-*/ with a scene.json, expected one: "
                         + ("move the others away" if found else REMEDY))
    states = [(path.name, path.stat()) for path in sorted(found[0].glob("*.json"))]
    return _tables(found[0], tuple((name, at.st_dev, at.st_ino, at.st_mtime_ns, at.st_size) for name, at in states))


@lru_cache(maxsize=2)  # data to train on and to validate on
def _tables(folder: Path, state: tuple) -> Tables:
    """state: of the files."""
    return Tables(folder)


def read_rows(path: Path) -> Iterator[dict]:
    """The objects of a table, a JSON list, read piece by piece. Raises ValueError if it is missing or damaged."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: {REMEDY}")
    columns = [(name, TYPES.get(name, str)) for name in COLUMNS[path.stem]]
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
            if not isinstance(row, dict) or not all(name in row for name, _ in columns):
                names = ", ".join(name for name, _ in columns)
                raise ValueError(f"{path} has a row without all of {names}: {REMEDY}")
            for name, kind in columns:
                if type(row[name]) is not kind:
                    raise ValueError(f"{path} has a row whose {name} is {row[name]!r}, no {kind.__name__}: {REMEDY}")
            yield row
            at = end
