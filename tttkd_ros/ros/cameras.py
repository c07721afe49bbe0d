"""What the cameras sent last, kept encoded, and the frame that a training step asks for.

Messages arrive in the executor's thread, which only stashes them. A frame is made in the thread that trains: there
the sweep's images are awaited for a bounded time, matched by stamp and decoded.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.messages.image import decode_raw_image
from tttkd_ros.messages.matching import StampMatcher
from tttkd_ros.messages.stamps import stamp_of_raw
from tttkd_ros.ros.complaints import Complaints
from tttkd_ros.ros.extrinsics import Extrinsics


@dataclass(frozen=True)
class _Encoded:
    stamp: int
    cdr: bytes


@dataclass(frozen=True)
class _Info:
    frame_id: str
    model: CameraModel


class Cameras:
    """Of one consumer, whose sweeps come in order: one that goes back in stamp tells the matcher that time jumped.

    image_type: as "sensor_msgs/msg/Image". tolerance_ns: largest distance in stamp. depth: images kept per camera.
    wait_s: how long `frame` waits for images at or after its sweep's stamp.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        extrinsics: Extrinsics,
        image_type: str,
        complaints: Complaints,
        *,
        tolerance_ns: int,
        depth: int,
        wait_s: float,
    ):
        self.names = names
        self.images = dict.fromkeys(names, 0)  # received, by camera
        self.problems = ""  # why the last frame has no view; empty if it has one
        self._extrinsics = extrinsics
        self._image_type = image_type
        self._complaints = complaints
        self._wait_s = wait_s
        self._tolerance_ns = tolerance_ns
        self._infos: dict[str, _Info] = {
            name: _Info("", model) for name in names if (model := extrinsics.model(name)) is not None
        }
        self._matcher: StampMatcher[_Encoded] = StampMatcher(tolerance_ns, depth)
        self._arrived = threading.Condition()

    def add_image(self, camera: str, cdr: bytes) -> None:
        """cdr: the serialised message, of which only the stamp is read."""
        try:
            stamp = stamp_of_raw(cdr)
        except ValueError as error:
            self._complaints.about(f"{camera}/image", error)
            return
        with self._arrived:
            self.images[camera] += 1
            self._matcher.add(camera, stamp, _Encoded(stamp, cdr))
            self._arrived.notify_all()

    def add_info(self, camera: str, msg) -> None:
        """An info that cannot be used is complained about; the last good one stays."""
        try:
            model = CameraModel.from_camera_info(msg)
        except ValueError as error:
            self._complaints.about(f"{camera}/camera_info", error)
            return
        self._infos[camera] = _Info(msg.header.frame_id, model)

    def frame_id(self, camera: str) -> str:
        """Of the camera's images, as its last good info names it; empty before one came."""
        info = self._infos.get(camera)
        return "" if info is None else info.frame_id

    def frame(self, stamp: int, points: np.ndarray, lidar_frame: str, names: tuple[str, ...] | None = None) -> Frame:
        """The sweep with every usable view, of all cameras or those in `names`.

        Waits, so never call it where messages are received. Where there is no view, `problems` says why.
        """
        names = self.names if names is None else names
        self._await(stamp, names)
        views, problems = [], []
        for camera in names:
            try:
                views.append(self._view(camera, stamp, lidar_frame))
            except ValueError as error:
                problems.append(f"{camera}: {error}")
                self._complaints.about(camera, f"not used for training: {error}")
        self.problems = "" if views else "; ".join(problems)
        return Frame(stamp, points, tuple(views))

    def _await(self, stamp: int, names: tuple[str, ...]) -> None:
        with self._arrived:
            self._arrived.wait_for(lambda: all(self._has_reached(name, stamp) for name in names), self._wait_s)

    def _has_reached(self, camera: str, stamp: int) -> bool:
        newest = self._matcher.newest(camera)
        return newest is not None and newest >= stamp

    def _view(self, camera: str, stamp: int, lidar_frame: str) -> View:
        encoded = self._matcher.nearest(camera, stamp)
        if encoded is None:
            raise ValueError(f"no image within {self._tolerance_ns * 1e-6:g} ms of the sweep")
        info = self._infos.get(camera)
        if info is None:
            raise ValueError("no usable CameraInfo yet")
        camera_from_lidar = self._extrinsics.camera_from_lidar(camera, info.frame_id, lidar_frame)
        image = decode_raw_image(encoded.cdr, self._image_type)
        height, width = image.shape[:2]
        if (width, height) != (info.model.width, info.model.height):
            raise ValueError(f"image is {width}x{height}, its CameraInfo says {info.model.width}x{info.model.height}")
        return View(camera, encoded.stamp, image, info.model, camera_from_lidar)
