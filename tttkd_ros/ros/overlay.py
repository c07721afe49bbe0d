"""Overlays: labelled points on the image, which show whether the extrinsics are right."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from tttkd_ros.geometry.drawing import draw_points
from tttkd_ros.messages.camera_buffer import CameraBuffer
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.ros.inference import LabelledSweep
from tttkd_ros.ros.outputs import image_message
from tttkd_ros.threads import join


class Overlays:
    """Draws the newest labelled sweep in a thread of its own, for cameras whose overlay has a subscriber.

    palette: (256, 3) uint8. publishers: of each camera's overlay.
    """

    def __init__(self, cameras: CameraBuffer, palette: np.ndarray, publishers: Mapping, failures: ThrottledLog):
        self._cameras = cameras
        self._palette = palette
        self._publishers = publishers
        self._failures = failures
        self._newest: LabelledSweep | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="overlays", daemon=True)
        self._thread.start()

    def submit(self, sweep: LabelledSweep) -> None:
        """Draw this sweep next, in place of one that still waits; never wait."""
        if self._wanted():
            with self._changed:
                self._newest = sweep
                self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        join(self._thread)

    def _wanted(self) -> tuple[str, ...]:
        return tuple(name for name, publisher in self._publishers.items() if publisher.get_subscription_count() > 0)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest is not None or self._closed)
                if self._closed:
                    return
                sweep, self._newest = self._newest, None
            try:
                self._draw(sweep)
            except Exception as error:
                self._failures.failed(f"overlay of the sweep at {sweep.scan.stamp}", error)

    def _draw(self, sweep: LabelledSweep) -> None:
        frame = self._cameras.frame(sweep.scan, sweep.points, sweep.frame_id, self._wanted(), sweep.times)
        for view in frame.views:
            image = draw_points(view, frame.projectable, sweep.labels, self._palette)
            self._publishers[view.name].publish(image_message(image, view.stamp, self._cameras.frame_id(view.name)))
