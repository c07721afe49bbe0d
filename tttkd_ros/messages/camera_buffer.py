"""What the cameras sent last, kept encoded, and the frame that a training step asks for.

Messages arrive in the executor's thread, which only stashes them; of sweeps it stashes the stamps, so that a jump in
time parts them from images in the order of arrival. A frame is made in the thread that trains: there the sweep's images
are awaited for a bounded time, matched by stamp and decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.compensation import Compensation
from tttkd_ros.messages.calibrated_camera import CalibratedCamera
from tttkd_ros.messages.clocks import image_time
from tttkd_ros.messages.image import decode_image, image_size, read_raw_image
from tttkd_ros.messages.limits import IMAGE_BYTES, IMAGE_PIXELS
from tttkd_ros.messages.matching import ScanStamp, StampMatcher, Unmatched
from tttkd_ros.messages.stamps import stamp_of_raw
from tttkd_ros.monitoring.throttled_log import ThrottledLog

if TYPE_CHECKING:  # messages are read without ROS, too
    from tttkd_ros.ros.camera_setup import Extrinsics

LARGEST_PIXEL = 8  # bytes, of rgba16
HEADER_BYTES = 2**16  # more than all that is no pixel takes in a message
LARGER_IMAGES = "let the camera send smaller ones, or raise the parameter limits.image_pixels"


@dataclass(frozen=True)
class _Encoded:
    stamp: int
    cdr: bytes


class Cameras:
    """Safe to use from several threads, of which one makes frames.

    image_type: as "sensor_msgs/msg/Image". tolerance_ns: largest distance in stamp. depth, most_bytes: images kept per
    camera, and the bytes that they may take. most_pixels: an image of more is refused as it arrives, or before it is
    decoded. wait_s: how long `frame` waits for images that are still to come. offsets_ns: per camera, from a sweep's
    stamp to that of the image that belongs to it; empty for none. channel_order: as for `decode_image`. rectified: the
    cameras whose images are.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        extrinsics: Extrinsics,
        image_type: str,
        warnings: ThrottledLog,
        *,
        tolerance_ns: int,
        depth: int,
        wait_s: float,
        most_bytes: int = IMAGE_BYTES,
        most_pixels: int = IMAGE_PIXELS,
        channel_order: str = "refuse",
        offsets_ns: tuple[int, ...] = (),
        compensation: Compensation | None = None,
        rectified: Collection[str] = (),
    ):
        self.names = names
        self.images = dict.fromkeys(names, 0)  # received, by camera
        self.problems = ""  # why the last frame has no view; empty if it has one
        self._extrinsics = extrinsics
        self._image_type = image_type
        self._warnings = warnings
        self._compensation = compensation or Compensation()
        self._wait_s = wait_s
        self._most_pixels = most_pixels
        self._refused: dict[str, str] = {}  # camera -> why its newest image was refused on arrival
        self._frame_ids: dict[str, str] = {}  # camera -> frame of the image of the last view
        self._channel_order = channel_order
        self._cameras = {
            name: CalibratedCamera(extrinsics.rig(name), rectified=name in rectified) for name in names
        }
        offsets = dict(zip(names, offsets_ns or (0,) * len(names), strict=True))
        self._offsets = offsets
        self._matcher: StampMatcher[_Encoded] = StampMatcher(offsets, tolerance_ns, depth, most_bytes)
        self._arrived = threading.Condition()
        self._awaited = set(names)  # not those that let a sweep wait in vain and have sent nothing since

    def add_sweep(self, stamp: int) -> ScanStamp:
        """Note a sweep as soon as it arrives. Give what this returns to `frame`, in the order of arrival or not.

        The sweep's images are kept for as long as somebody holds it.
        """
        return self._matcher.register(stamp)

    def add_image(self, camera: str, cdr: bytes) -> None:
        """cdr: the serialised message, of which only the stamp is read, and of a large one the size."""
        try:
            stamp = stamp_of_raw(cdr)
            if len(cdr) > self._most_pixels:  # with fewer bytes it holds fewer pixels, unless it is compressed
                self._check_large(cdr)
        except ValueError as error:
            self._refused[camera] = str(error)
            self._warnings.warn(f"{camera}/image", error)
            return
        self._refused.pop(camera, None)
        with self._arrived:
            self.images[camera] += 1
            self._matcher.add(camera, stamp, _Encoded(stamp, cdr), len(cdr))
            self._awaited.add(camera)
            self._arrived.notify_all()

    def _check_large(self, cdr: bytes) -> None:
        """Raise ValueError for a message with too many pixels, or with more bytes than the largest pixels take."""
        self._check_pixels(*image_size(read_raw_image(cdr, self._image_type)))
        if len(cdr) > (most := self._most_pixels * LARGEST_PIXEL + HEADER_BYTES):
            raise ValueError(f"image of {len(cdr)} bytes is refused: expected at most {most}; {LARGER_IMAGES}")

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._most_pixels:
            raise ValueError(f"image of {width}x{height} is refused: expected at most {self._most_pixels} pixels; "
                             f"{LARGER_IMAGES}")

    def add_info(self, camera: str, msg) -> None:
        """The last info that can be used stays in force; one that cannot is warned of."""
        try:
            self._cameras[camera].add(msg)
        except ValueError as error:
            self._warnings.warn(f"{camera}/camera_info", error)

    def frame_id(self, camera: str) -> str:
        """Of the image of the camera's last view, as its own header names it, else its CameraInfo; empty before one."""
        return self._frame_ids.get(camera, "")

    def frame(
        self,
        sweep: ScanStamp,
        points: np.ndarray,
        lidar_frame: str,
        names: tuple[str, ...] | None = None,
        times: Callable[[], np.ndarray | None] = lambda: None,
        level: np.ndarray | None = None,
    ) -> Frame:
        """The sweep with every usable view, of all cameras or those in `names`. times: as for `Compensation`. level: as
        of `Frame`.

        Waits, so never call it where messages are received. Where there is no view, `problems` says why.
        """
        names = self.names if names is None else names
        self._await(sweep, names)
        views, missing = [], {}
        for camera in names:
            try:
                views.append(self._view(camera, sweep, lidar_frame))
            except ValueError as error:
                missing[camera] = str(error)
                self._warnings.warn(camera, f"not used for training: {error}")
        self.problems = "" if views else "; ".join(f"{camera}: {reason}" for camera, reason in missing.items())
        deskewed = self._compensation.deskewed(lidar_frame, sweep.stamp, points, times) if views else None
        return Frame(
            sweep.stamp, points, tuple(views), deskewed=deskewed, level=level, frame_id=lidar_frame, missing=missing
        )

    def _await(self, sweep: ScanStamp, names: tuple[str, ...]) -> None:
        """A camera that lets a sweep wait in vain costs the following ones no time until it sends again."""

        def missing() -> set[str]:
            return {name for name in names if name in self._awaited and self._matcher.expects(name, sweep)}

        with self._arrived:
            if not self._arrived.wait_for(lambda: not missing(), self._wait_s):
                self._awaited -= missing()

    def _view(self, camera: str, sweep: ScanStamp, lidar_frame: str) -> View:
        try:
            encoded = self._matcher.nearest(camera, sweep)
        except Unmatched as unmatched:
            raise ValueError(self._refused.get(camera) or unmatched) from None
        message = read_raw_image(encoded.cdr, self._image_type)
        size = image_size(message)
        if not all(size):
            decode_image(message)  # which says why it cannot be
        self._check_pixels(*size)
        frame_id = message.header.frame_id

        def frame_from_lidar(frame: str) -> np.ndarray:
            return self._extrinsics.camera_from_lidar(camera, frame, lidar_frame, encoded.stamp)

        # Before it is decoded: its size may not be that of its CameraInfo.
        model, camera_from_lidar = self._cameras[camera].locate(encoded.stamp, size, frame_id, frame_from_lidar)
        image = decode_image(message, channel_order=self._channel_order, max_pixels=self._most_pixels)
        self._frame_ids[camera] = frame_id or self._cameras[camera].frame_id
        taken = image_time(encoded.stamp, self._offsets[camera])
        moved = self._compensation.between(lidar_frame, taken, sweep.stamp)
        named = "" if self._extrinsics.rig(camera) else self._frame_ids[camera]
        return View(camera, encoded.stamp, image, model, camera_from_lidar @ moved, named)
