"""The newest images of every camera, still encoded, and the frame of a sweep made from them.

Messages arrive in the executor's thread, which only stores them. It stores the stamps of sweeps as well, so that the
matcher sees jumps in time in the order of arrival. A frame is made in the thread that needs it: it waits a bounded time
for the images of the sweep, matches them by stamp and decodes them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.geometry.trajectory import Compensation
from tttkd_ros.messages.calibrated_camera import CalibratedCamera
from tttkd_ros.messages.clocks import image_time
from tttkd_ros.messages.definitions import deserialise
from tttkd_ros.messages.image import decode_image, image_size
from tttkd_ros.messages.limits import IMAGE_BYTES, IMAGE_PIXELS
from tttkd_ros.messages.matching import ScanStamp, StampMatcher, Unmatched
from tttkd_ros.messages.stamps import SECOND, stamp_of_raw

MAX_PIXEL_BYTES = 8  # of rgba16
MAX_HEADER_BYTES = 2**16  # of a message, without its pixels
LARGER_IMAGES = "let the camera send smaller ones, or raise the parameter limits.image_pixels"


class Extrinsics(Protocol):
    """Where the cameras are."""

    def rig(self, camera: str) -> RigCamera | None:
        """Return what a rig file says of a camera; None if there is no rig file."""

    def camera_from_lidar(self, camera: str, camera_frame: str, lidar_frame: str, stamp: int) -> np.ndarray:
        """Return camera_from_lidar (4, 4) at a time, nanoseconds. Not called for a camera of a rig file."""


@dataclass(frozen=True)
class _EncodedImage:
    stamp: int
    cdr: bytes


class CameraBuffer:
    """Serves training and overlays. Any thread may call any method.

    Args:
        names: of the cameras.
        extrinsics: of the cameras.
        image_type: as "sensor_msgs/msg/Image".
        warn: called with a source and a problem; it limits repetitions.
        tolerance_ns: largest distance in stamp between a sweep and its image.
        depth: images kept per camera.
        wait_s: how long `frame` waits for images that are still to come.
        max_bytes: of the images kept per camera.
        max_pixels: a larger image is refused before it is kept or decoded.
        channel_order: as for `decode_image`.
        offsets_ns: per camera, from a sweep's stamp to that of its image; empty for none.
        compensation: of the vehicle's motion.
        rectified: the cameras whose images are rectified.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        extrinsics: Extrinsics,
        image_type: str,
        warn: Callable[[str, object], object],
        *,
        tolerance_ns: int,
        depth: int,
        wait_s: float,
        max_bytes: int = IMAGE_BYTES,
        max_pixels: int = IMAGE_PIXELS,
        channel_order: str = "refuse",
        offsets_ns: tuple[int, ...] = (),
        compensation: Compensation | None = None,
        rectified: Collection[str] = (),
    ):
        self.names = names
        self.received = dict.fromkeys(names, 0)  # images, by camera
        self._extrinsics = extrinsics
        self._image_type = image_type
        self._warn = warn
        self._compensation = compensation or Compensation()
        self._wait_s = wait_s
        self._max_pixels = max_pixels
        self._channel_order = channel_order
        self._frame_ids: dict[str, str] = {}  # camera -> frame id of the image of its last view
        self._refused: dict[str, str] = {}  # camera -> why its newest image was refused on arrival
        self._cameras = {
            name: CalibratedCamera(extrinsics.rig(name), rectified=name in rectified) for name in names
        }
        self._offsets = dict(zip(names, offsets_ns or (0,) * len(names), strict=True))
        self._matcher: StampMatcher[_EncodedImage] = StampMatcher(self._offsets, tolerance_ns, depth, max_bytes)
        self._arrived = threading.Condition()

    def add_sweep(self, stamp: int) -> ScanStamp:
        """Record a sweep on arrival. Its images are kept for as long as the returned object is referenced."""
        return self._matcher.register(stamp)

    def add_image(self, camera: str, cdr: bytes) -> None:
        """Store a serialised image. Only its stamp is read and, if it is large, its size."""
        try:
            stamp = stamp_of_raw(cdr)
            if len(cdr) > self._max_pixels:  # fewer bytes hold fewer pixels, unless they are compressed
                self._check_large(cdr)
        except ValueError as error:
            self._refused[camera] = str(error)
            self._warn(f"{camera}/image", error)
            return
        self._refused.pop(camera, None)
        with self._arrived:
            self.received[camera] += 1
            self._matcher.add(camera, stamp, _EncodedImage(stamp, cdr), len(cdr))
            self._arrived.notify_all()

    def add_info(self, camera: str, msg) -> None:
        """Use a CameraInfo from now on. One that cannot be used is warned about, and the last usable one stays."""
        try:
            self._cameras[camera].add(msg)
        except ValueError as error:
            self._warn(f"{camera}/camera_info", error)

    def frame_id(self, camera: str) -> str:
        """Return the frame id of the camera's last view: the image's own, else its CameraInfo's; empty before one."""
        return self._frame_ids.get(camera, "")

    def frame(
        self,
        scan: ScanStamp,
        points: np.ndarray,
        lidar_frame: str,
        names: tuple[str, ...] | None = None,
        times: Callable[[], np.ndarray | None] = lambda: None,
        level: np.ndarray | None = None,
        features: Mapping[str, np.ndarray] = MappingProxyType({}),
        wait_s: float | None = None,
    ) -> Frame:
        """Make the frame of a sweep, with every view that can be made.

        It waits for images, so never call it in the thread that receives messages.

        Args:
            scan: from `add_sweep`.
            points: (N, 3) float32, metres, LiDAR frame.
            lidar_frame: the sweep's frame id.
            names: the cameras to use; all if None.
            times: see `Compensation.deskewed`.
            level, features: see `Frame`.
            wait_s: how long to wait for images; None for as long as the buffer's own.

        Returns:
            The frame; `missing` says why a camera has no view.
        """
        names = self.names if names is None else names
        self._wait_for_images(scan, names, self._wait_s if wait_s is None else wait_s)
        views, missing = [], {}
        for camera in names:
            try:
                views.append(self._view(camera, scan, lidar_frame))
            except ValueError as error:
                missing[camera] = str(error)
                self._warn(camera, f"its image is not used: {error}")
        deskewed = self._compensation.deskewed(lidar_frame, scan.stamp, points, times) if views else None
        return Frame(
            scan.stamp, points, tuple(views), features, deskewed=deskewed, level=level, frame_id=lidar_frame,
            missing=missing,
        )

    def _check_large(self, cdr: bytes) -> None:
        self._check_pixels(*image_size(deserialise(cdr, self._image_type)))
        if len(cdr) > (limit := self._max_pixels * MAX_PIXEL_BYTES + MAX_HEADER_BYTES):
            raise ValueError(f"image of {len(cdr)} bytes is refused: expected at most {limit}; {LARGER_IMAGES}")

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise ValueError(f"image of {width}x{height} is refused: expected at most {self._max_pixels} pixels; "
                             f"{LARGER_IMAGES}")

    def _wait_for_images(self, scan: ScanStamp, names: tuple[str, ...], wait_s: float) -> None:
        wait = round(wait_s * SECOND)
        with self._arrived:
            self._arrived.wait_for(lambda: not any(self._matcher.expects(name, scan, wait) for name in names), wait_s)

    def _view(self, camera: str, scan: ScanStamp, lidar_frame: str) -> View:
        try:
            encoded = self._matcher.nearest(camera, scan)
        except Unmatched as unmatched:
            raise ValueError(self._refused.get(camera) or unmatched) from None
        message = deserialise(encoded.cdr, self._image_type)
        size = image_size(message)
        self._check_pixels(*size)
        frame_id = message.header.frame_id

        def frame_from_lidar(frame: str) -> np.ndarray:
            return self._extrinsics.camera_from_lidar(camera, frame, lidar_frame, encoded.stamp)

        # The size is compared with CameraInfo's before the image is decoded.
        model, camera_from_lidar = self._cameras[camera].locate(encoded.stamp, size, frame_id, frame_from_lidar)
        image = decode_image(message, channel_order=self._channel_order, max_pixels=self._max_pixels)
        image_stamp = image_time(encoded.stamp, self._offsets[camera])
        moved = self._compensation.between(lidar_frame, image_stamp, scan.stamp)
        self._frame_ids[camera] = frame_id or self._cameras[camera].frame_id
        named = "" if self._extrinsics.rig(camera) else self._frame_ids[camera]  # a rig does not go by frame ids
        return View(camera, encoded.stamp, image, model, camera_from_lidar @ moved, named)
