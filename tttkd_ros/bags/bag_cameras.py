"""The cameras of a bag: their topics, what a rig file says of them, and whether they can be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import Bag, Record
from tttkd_ros.bags.transforms import Transforms
from tttkd_ros.frame import View
from tttkd_ros.geometry.rig import RigCamera, match_cameras
from tttkd_ros.messages.calibrated_camera import CalibratedCamera
from tttkd_ros.messages.image import decode_image
from tttkd_ros.messages.stamps import frame_id_of_raw, nanoseconds
from tttkd_ros.names import info_topic, is_rectified, parse_camera

log = logging.getLogger(__name__)

FIRST_MESSAGES = 100  # of a topic, in which a frame is looked for that TF ties to another: two LiDARs take turns


@dataclass(frozen=True)
class BagCamera:
    """infos: the topic of its CameraInfo, None if a rig tells the model. paired: whether each image has one of its own.
    first: the first CameraInfo that can be used, and when it was received (ns)."""

    name: str
    topic: str
    rig: RigCamera | None
    infos: str | None = None
    paired: bool = False
    first: tuple[Any, int] | None = None
    channel_order: str = "refuse"  # as for `decode_image`

    def start(self) -> CalibratedCamera:
        """For one reading of the bag. What was recorded before the first usable CameraInfo goes by that one."""
        camera = CalibratedCamera(self.rig, rectified=is_rectified(self.topic))
        if self.first is not None:
            camera.add(*self.first)
        return camera

    def view(
        self, camera: CalibratedCamera, message, received: int, frame_from_lidar: Callable[[str, int], np.ndarray],
        moved: np.ndarray,
    ) -> View:
        """Of an image message.

        frame_from_lidar: gives (4, 4) for a frame and a stamp. moved: (4, 4), what stands still, from the LiDAR frame
        of the sweep to that of the image. Raises ValueError if the image cannot be decoded or located.
        """
        stamp = nanoseconds(message.header.stamp)
        pixels = decode_image(message, channel_order=self.channel_order)
        model, camera_from_lidar = camera.locate(
            stamp, pixels.shape[1::-1], message.header.frame_id, lambda frame: frame_from_lidar(frame, stamp), received
        )
        frame_id = "" if self.rig else message.header.frame_id or camera.frame_id
        return View(self.name, stamp, pixels, model, camera_from_lidar @ moved, frame_id)


class CameraReading:
    """The state of one pass through a bag: the cameras' calibrations, and which warnings were given."""

    def __init__(self, cameras: Sequence[BagCamera]):
        self.cameras = [(camera, camera.start()) for camera in cameras]
        self.infos = {camera.infos: started for camera, started in self.cameras if camera.infos is not None}
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
    bag: Bag, points_topic: str, wanted: Sequence[str] | None, rig: Mapping[str, RigCamera], transforms: Transforms,
    channel_order: str = "refuse",
) -> tuple[list[BagCamera], dict[str, str]]:
    """The usable cameras, and the reasons why the others are not.

    Raises ValueError if a wanted camera is not there, not in the rig or not usable; where none is named, if an entry of
    the rig is no camera's.
    """
    preferred = {entry.topic for entry in rig.values() if entry.topic is not None}
    images = topics.camera_topics(bag.types, bag.counts, preferred)
    undecoded = topics.undecoded_cameras(bag.types, bag.counts)
    entries, strangers = match_cameras(rig, images)
    known = ", ".join(f"{name} ({topic})" for name, topic in images.items()) or "none"
    known += "".join(f"; {reason}" for reason in undecoded.values())
    if wanted is not None:
        wanted = _chosen(bag, wanted, images, entries, known)
        strangers = ()
        if rig and (lacking := [name for name in wanted if name not in entries]):
            raise ValueError(f"the rig has no camera {', '.join(lacking)} of bag {bag.path}; it has {', '.join(rig)}: "
                             "name it so in the rig, or give the rig's entry its topic")
    if strangers:
        raise ValueError(f"the rig names camera {', '.join(strangers)}, which bag {bag.path} does not have, only "
                         f"{known}: name them so in the rig, give the entry its topic, or say which cameras to use")
    usable, unusable = [], undecoded if wanted is None else {}
    for name in images if wanted is None else wanted:
        try:
            entry = rig[entries[name]] if name in entries else None
            camera = _usable(bag, points_topic, name, images[name], entry, transforms)
            usable.append(replace(camera, channel_order=channel_order))
        except ValueError as error:
            if wanted is not None:
                raise ValueError(f"bag {bag.path}, camera {name!r}: {error}") from error
            unusable[name] = str(error)
    return usable, unusable


def _chosen(
    bag: Bag, wanted: Sequence[str], images: Mapping[str, str], entries: Mapping[str, str], known: str
) -> list[str]:
    """The bag's names of wanted cameras, which may be called as a rig calls them, or by topic."""
    calls = {entry: name for name, entry in entries.items()} | {name: name for name in images}
    found = {each: calls.get(each) or calls.get(parse_camera(each)[0]) for each in wanted}
    missing = [each for each, name in found.items() if name is None]
    if missing:
        raise ValueError(f"bag {bag.path} has no images of camera {', '.join(missing)}; it has those of {known}")
    return list(dict.fromkeys(found.values()))


def _usable(
    bag: Bag, points_topic: str, name: str, topic: str, rig: RigCamera | None, transforms: Transforms
) -> BagCamera:
    """Raises ValueError with the reason and the remedy if the camera cannot be used."""
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
        try:
            _check_tied(bag, points_topic, camera, transforms)
        except ValueError as error:
            raise ValueError(f"{error}: give a rig file with its camera_from_lidar") from error
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


def _check_tied(bag: Bag, points_topic: str, camera: BagCamera, transforms: Transforms) -> None:
    """Raises ValueError if no frame of the first images is tied to one of the first sweeps."""
    problem = None
    for lidar in _frame_ids(bag, points_topic):
        for frame in (*_frame_ids(bag, camera.topic, 1), *_frame_ids(bag, camera.infos)):
            try:
                transforms.lookup(frame, lidar, nanoseconds(camera.first[0].header.stamp), camera.first[1])
                return
            except ValueError as error:
                problem = problem or error
    raise problem or ValueError("neither its images nor its CameraInfo have a frame id")


def _frame_ids(bag: Bag, topic: str, most: int = FIRST_MESSAGES) -> Iterator[str]:
    """The different frame ids of the first messages, in their order."""
    seen = {""}
    for record in islice(bag.messages([topic]), most):
        frame = frame_id_of_raw(record.data)
        if frame not in seen:
            seen.add(frame)
            yield frame
