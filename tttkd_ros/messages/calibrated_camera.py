"""The camera model and pose of each image of a camera, by one rule for the live node and replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.messages.camera_info import Calibration
from tttkd_ros.messages.stamps import nanoseconds

MAX_SPANS = 64  # changes of the calibration that are kept: more than there are images that wait for their scan


@dataclass(frozen=True)
class _Span:
    """A calibration, the first and last stamp that it was published with, and when it was first received; all in ns."""

    calibration: Calibration
    first: int
    last: int
    received: int


class CalibratedCamera:
    """Finds the calibration of an image: the rig's, or else the CameraInfo in force at the image's stamp.

    If no CameraInfo was in force then, it is the last one received before the image, or else the first one. What the
    rig's entry gives takes precedence over CameraInfo and TF. One thread may call `add` while others call `locate`.
    """

    def __init__(self, rig: RigCamera | None = None, *, rectified: bool = False):
        self._rig = rig
        self._rectified = rectified
        self._spans: tuple[_Span, ...] = ()

    @property
    def frame_id(self) -> str:
        """The frame id of the last usable CameraInfo; empty if there is none."""
        return self._spans[-1].calibration.frame_id if self._spans else ""

    def add(self, info: Any, received: int = 0) -> None:
        """Add a sensor_msgs/CameraInfo, received at that time (ns; 0 for all to use the order of the calls).

        Raises ValueError if it cannot be used. The last usable one stays in force.
        """
        try:
            calibration = Calibration.read(info, rectified=self._rectified)
        except ValueError as error:
            instead = "the last usable one stays in force" if self._spans else "none that can be used came yet"
            raise ValueError(f"{error}; {instead}") from error
        stamp = nanoseconds(info.header.stamp)
        spans = self._spans
        if spans and stamp < spans[-1].last:  # time jumped back, so the stamps so far say nothing about later images
            spans = (replace(spans[-1], first=stamp, last=stamp - 1),)
        if spans and spans[-1].calibration == calibration:
            self._spans = (*spans[:-1], replace(spans[-1], last=stamp))
        else:
            self._spans = (*spans, _Span(calibration, stamp, stamp, received))[-MAX_SPANS:]

    def locate(
        self,
        stamp: int,
        size: tuple[int, int],
        image_frame: str,
        frame_from_lidar: Callable[[str], np.ndarray],
        received: int = 0,
    ) -> tuple[CameraModel, np.ndarray]:
        """The camera model of an image, and camera_from_lidar (4, 4) into its optical frame.

        Args:
            stamp, received: the image's stamp and when it was received, nanoseconds.
            size: width and height of the image, pixels.
            image_frame: its frame id. CameraInfo's is used if this one is empty or unknown.
            frame_from_lidar: gives (4, 4) for a frame id, or raises ValueError. Not called if the rig has the pose.

        Raises:
            ValueError: there is no usable CameraInfo, it does not allow the image's size, or no frame is known.
        """
        rig = self._rig
        if rig is not None and rig.camera is not None:
            model = rig.camera
            if size != (model.width, model.height):
                raise ValueError(f"image is {size[0]}x{size[1]}, the rig's camera_info says {model.width}x"
                                 f"{model.height}: correct it, or remove it to have the published CameraInfo used")
            return model, rig.camera_from_lidar
        calibration = self._in_force(stamp, received)
        if calibration is None:
            raise ValueError("no usable CameraInfo yet")
        model = calibration.model(*size)
        if rig is not None:
            return model, rig.camera_from_lidar
        return model, calibration.optical_from_frame @ _first_known(
            frame_from_lidar, image_frame, calibration.frame_id
        )

    def _in_force(self, stamp: int, received: int) -> Calibration | None:
        by_stamp = (span for span in reversed(self._spans) if span.first <= stamp <= span.last)
        by_order = (span for span in reversed(self._spans) if span.received <= received)
        span = next(by_stamp, None) or next(by_order, None) or next(iter(self._spans), None)
        return None if span is None else span.calibration


def _first_known(frame_from_lidar: Callable[[str], np.ndarray], *frames: str) -> np.ndarray:
    problem = ValueError("neither the image nor its CameraInfo has a frame id: set the driver's, or give a rig file")
    for index, frame in enumerate(dict.fromkeys(filter(None, frames))):
        try:
            return frame_from_lidar(frame)
        except ValueError as error:
            problem = error if index == 0 else problem
    raise problem
