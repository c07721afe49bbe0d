"""The cameras of a bag: their topics, their entries in a rig file, and whether they can be used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import Bag, Record
from tttkd_ros.bags.transforms import Transforms
from tttkd_ros.geometry.rig import RigCamera, match_cameras
from tttkd_ros.messages.calibrated_camera import CalibratedCamera
from tttkd_ros.messages.stamps import frame_id_of_raw, nanoseconds
from tttkd_ros.names import info_topic, is_rectified, parse_camera

log = logging.getLogger(__name__)

FIRST_MESSAGES = 100  # of a topic, in which to look for frames that TF connects: two LiDARs may take turns


@dataclass(frozen=True)
class BagCamera:
    """A camera that can be used."""

    name: str  # its namespace
    topic: str  # of its images
    rig: RigCamera | None
    infos: str | None = None  # the topic of its CameraInfo; None if the rig has the intrinsics
    paired: bool = False  # each image has a CameraInfo of its own
    first: tuple[Any, int] | None = None  # usable CameraInfo, and its receipt (ns); also for the images before it


class CameraReading:
    """The state of one pass through a bag: the cameras' calibrations, and which warnings were given."""

    def __init__(self, cameras: Sequence[BagCamera]):
        self.cameras = [(camera, CalibratedCamera(camera.rig, rectified=is_rectified(camera.topic)))
                        for camera in cameras]
        self.infos: dict[str, CalibratedCamera] = {}
        for camera, calibration in self.cameras:
            if camera.infos is not None:
                calibration.add(*camera.first)
                self.infos[camera.infos] = calibration
        self._warned: set[str] = set()

    def add_info(self, bag: Bag, record: Record) -> None:
        """Take a CameraInfo; an unusable one is logged."""
        try:
            self.infos[record.topic].add(bag.decode(record), record.time)
        except ValueError as error:
            self.warn_once(record.topic, f"a message on {record.topic}, perhaps others: {error}")

    def warn_once(self, source: str, problem: str) -> None:
        """Log the first problem of each source."""
        if source not in self._warned:
            self._warned.add(source)
            log.warning("%s", problem)


def find_cameras(
    bag: Bag, points_topic: str, wanted: Sequence[str] | None, rig: Mapping[str, RigCamera], transforms: Transforms
) -> tuple[list[BagCamera], dict[str, str]]:
    """Find the cameras that can be used, and name -> reason for the others.

    wanted: by name, by topic or by name in the rig; None for all. Raises ValueError if a wanted camera is not in the
    bag, not in the rig or not usable, or if the rig has an entry for no camera of the bag and none is named.
    """
    preferred = {entry.topic for entry in rig.values() if entry.topic is not None}
    images = topics.camera_topics(bag.types, bag.counts, preferred)
    unusable = topics.undecoded_cameras(bag.types, bag.counts)
    entries, unmatched = match_cameras(rig, images)
    known = ", ".join(f"{name} ({topic})" for name, topic in images.items()) or "none"
    known += "".join(f"; {reason}" for reason in unusable.values())
    if wanted is None:
        names = list(images)
        if unmatched:
            raise ValueError(f"the rig names camera {', '.join(unmatched)}, which bag {bag.path} does not have, only "
                             f"{known}: name them so in the rig, give the entry its topic, or say which cameras to use")
    else:
        aliases = {entry: name for name, entry in entries.items()} | {name: name for name in images}
        found = {each: aliases.get(each) or aliases.get(parse_camera(each)[0]) for each in wanted}
        if missing := [each for each, name in found.items() if name is None]:
            raise ValueError(f"bag {bag.path} has no images of camera {', '.join(missing)}; it has those of {known}")
        names = list(dict.fromkeys(found.values()))
        if rig and (lacking := [name for name in names if name not in entries]):
            raise ValueError(f"the rig has no camera {', '.join(lacking)} of bag {bag.path}; it has {', '.join(rig)}: "
                             "name it so in the rig, or give the rig's entry its topic")
    usable = []
    for name in names:
        try:
            entry = rig[entries[name]] if name in entries else None
            usable.append(_find_calibration(bag, points_topic, name, images[name], entry, transforms))
        except ValueError as error:
            if wanted is not None:
                raise ValueError(f"bag {bag.path}, camera {name!r}: {error}") from error
            unusable[name] = str(error)
    return usable, unusable if wanted is None else {}


def _find_calibration(
    bag: Bag, points_topic: str, name: str, topic: str, rig: RigCamera | None, transforms: Transforms
) -> BagCamera:
    """Raises ValueError with the remedy if the intrinsics or extrinsics are not known."""
    if not bag.counts[topic]:
        raise ValueError(f"no message on {topic} or any other of its image topics")
    if rig is not None and rig.camera is not None:
        return BagCamera(name, topic, rig)
    infos = info_topic(topic)
    if bag.types.get(infos) != topics.CAMERA_INFO or not bag.counts[infos]:
        raise ValueError(f"no CameraInfo on {infos}: give a rig file with its camera_info")
    paired = 2 * bag.counts[infos] > bag.counts[topic]
    camera = BagCamera(name, topic, rig, infos, paired, _first_usable(bag, infos, is_rectified(topic)))
    if rig is None:
        _check_connected(bag, points_topic, camera, transforms)
    return camera


def _first_usable(bag: Bag, infos: str, rectified: bool) -> tuple[Any, int]:
    problem = None
    for record in bag.messages([infos]):
        try:
            info = bag.decode(record)
            CalibratedCamera(rectified=rectified).add(info)
            return info, record.time
        except ValueError as error:
            problem = problem or error
    raise problem or ValueError(f"no CameraInfo on {infos}, although the bag counts {bag.counts[infos]}")


def _check_connected(bag: Bag, points_topic: str, camera: BagCamera, transforms: Transforms) -> None:
    """Raise ValueError if TF connects no frame of the first images to one of the first sweeps."""
    problem = None
    for lidar in _frame_ids(bag, points_topic):
        for frame in (*_frame_ids(bag, camera.topic, 1), *_frame_ids(bag, camera.infos)):
            try:
                transforms.lookup(frame, lidar, nanoseconds(camera.first[0].header.stamp), camera.first[1])
                return
            except ValueError as error:
                problem = problem or error
    problem = problem or "neither its images nor its CameraInfo have a frame id"
    raise ValueError(f"{problem}: give a rig file with its camera_from_lidar")


def _frame_ids(bag: Bag, topic: str, limit: int = FIRST_MESSAGES) -> Iterator[str]:
    """The different frame ids of the first messages, in their order."""
    seen = {""}
    for record in islice(bag.messages([topic]), limit):
        frame = frame_id_of_raw(record.data)
        if frame not in seen:
            seen.add(frame)
            yield frame
