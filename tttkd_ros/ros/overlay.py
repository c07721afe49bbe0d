"""Points drawn on the image in their label's colour: the picture that shows whether the extrinsics are right."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import torch

from tttkd_ros.frame import View
from tttkd_ros.geometry.projection import project
from tttkd_ros.messages.camera_buffer import Cameras
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.ros.inference import Answered
from tttkd_ros.ros.outputs import image_message
from tttkd_ros.threads import join


def draw(view: View, points: np.ndarray, labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """The view's image (H, W, 3) with every visible point as a square, near ones over far ones.

    points (N, 3) float32 in the LiDAR frame, labels (N,) uint8, palette (256, 3) uint8.
    """
    image = view.image.copy()
    height, width = image.shape[:2]
    seen = project(torch.from_numpy(points), view.camera, view.camera_from_lidar)
    visible = seen.visible.numpy()
    columns, rows = seen.pixels.numpy()[visible].astype(np.int64).T
    order = np.argsort(-seen.depth.numpy()[visible], kind="stable")  # of several writes to a pixel the last one stays
    columns, rows, colours = columns[order], rows[order], palette[labels[visible][order]]
    reach = max(1, width // 640)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            image[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)] = colours
    return image


class Overlays:
    """Draws the newest answered sweep in a thread of its own, for those cameras whose overlay has a subscriber.

    publishers: one per camera.
    """

    def __init__(self, cameras: Cameras, palette: np.ndarray, publishers: Mapping, failures: ThrottledLog):
        self._cameras = cameras
        self._palette = palette
        self._publishers = publishers
        self._failures = failures
        self._newest: Answered | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="overlays", daemon=True)
        self._thread.start()

    def submit(self, answered: Answered) -> None:
        """Never waits; a sweep not drawn yet makes way for this one."""
        if self._wanted():
            with self._changed:
                self._newest = answered
                self._changed.notify()

    def close(self) -> None:
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
                answered, self._newest = self._newest, None
            try:
                self._draw(answered)
            except Exception as error:
                self._failures.failed(f"overlay of the sweep at {answered.stamp}", error)

    def _draw(self, answered: Answered) -> None:
        sweep = self._cameras.add_sweep(answered.stamp)
        frame = self._cameras.frame(sweep, answered.points, answered.frame_id, self._wanted(), answered.times)
        for view in frame.views:
            image = draw(view, frame.projectable, answered.labels, self._palette)
            self._publishers[view.name].publish(image_message(image, view.stamp, self._cameras.frame_id(view.name)))
