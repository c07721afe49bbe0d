"""The cameras of a bag: their images' topics, their models, and where they sit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.moving_transforms import MovingTransforms
from tttkd_ros.bags.static_transforms import StaticTransforms
from tttkd_ros.bags.storage import Bag
from tttkd_ros.frame import View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.motion import Trajectory
from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.messages.image import decode_image


@dataclass(frozen=True)
class BagCamera:
    name: str
    topic: str
    model: CameraModel
    place: np.ndarray | Trajectory  # camera_from_lidar (4, 4), or as it moves
    frame_id: str = ""  # empty where a rig file tells the place

    def view(self, message, stamp: int, moved: np.ndarray) -> View:
        """Of an image message. moved (4, 4): what stands still, from the LiDAR frame of the sweep to that of the image.

        Raises ValueError where the image cannot be decoded or is not of the model's size.
        """
        pixels = decode_image(message)
        height, width = pixels.shape[:2]
        if (width, height) != (self.model.width, self.model.height):
            raise ValueError(f"image is {width}x{height}, but its camera model is for "
                             f"{self.model.width}x{self.model.height}")
        return View(self.name, stamp, pixels, self.model, self._camera_from_lidar(stamp) @ moved, self.frame_id)

    def _camera_from_lidar(self, stamp: int) -> np.ndarray:
        """(4, 4) at that time, or at the nearest at which it is known."""
        if isinstance(self.place, Trajectory):
            return self.place.at([min(max(stamp, self.place.first), self.place.last)])[0]
        return self.place


def find_cameras(
    bag: Bag, lidar_frame: str, wanted: Sequence[str] | None, rig: dict[str, RigCamera],
    statics: StaticTransforms, moving: MovingTransforms | None,
) -> tuple[list[BagCamera], dict[str, str]]:
    """The usable cameras, and the reasons why the others are not. A wanted one must be usable."""
    images = topics.camera_topics(bag.types, bag.counts)
    missing = [name for name in wanted or () if name not in images]
    if missing:
        raise ValueError(f"bag {bag.path} has no images of camera {', '.join(missing)}; it has those of "
                         f"{', '.join(images) or 'none'}")
    usable, unusable = [], {}
    for name in images if wanted is None else wanted:
        try:
            if not bag.counts[images[name]]:
                raise ValueError(f"no message on {images[name]} or any other of its image topics")
            model, place, frame_id = _calibration(bag, name, lidar_frame, rig.get(name), statics, moving)
        except ValueError as error:
            if wanted is not None:
                raise ValueError(f"bag {bag.path}, camera {name!r}: {error}") from error
            unusable[name] = str(error)
        else:
            usable.append(BagCamera(name, images[name], model, place, frame_id))
    return usable, unusable


def _calibration(
    bag: Bag, name: str, lidar_frame: str, rigged: RigCamera | None,
    statics: StaticTransforms, moving: MovingTransforms | None,
) -> tuple[CameraModel, np.ndarray | Trajectory, str]:
    """Model, place and frame: the rig's (it names no frame) where it has them, else the first CameraInfo's and TF's."""
    if rigged is not None and rigged.camera is not None:
        return rigged.camera, rigged.camera_from_lidar, ""
    topic = topics.info_topic(name)
    if bag.types.get(topic) != topics.CAMERA_INFO or not bag.counts[topic]:
        raise ValueError(f"no CameraInfo on {topic}: give a rig file with its camera_info")
    info = bag.first(topic)
    model = CameraModel.from_camera_info(info)
    if rigged is not None:
        return model, rigged.camera_from_lidar, ""
    try:
        return model, _place(info.header.frame_id, lidar_frame, statics, moving), info.header.frame_id
    except ValueError as error:
        raise ValueError(f"{error}: give a rig file with its camera_from_lidar") from error


def _place(
    camera_frame: str, lidar_frame: str, statics: StaticTransforms, moving: MovingTransforms | None
) -> np.ndarray | Trajectory:
    try:
        return statics.lookup(camera_frame, lidar_frame)
    except ValueError:
        if moving is None:
            raise
    return moving.trajectory(camera_frame, lidar_frame)
