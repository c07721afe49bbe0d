"""Overlays: points drawn on the image. Labels show whether the extrinsics are right, features what the student knows of
the image."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.frame import View
from tttkd_ros.geometry.drawing import draw_points
from tttkd_ros.messages.camera_buffer import CameraBuffer
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.ros.inference import LabelledSweep
from tttkd_ros.ros.outputs import image_message
from tttkd_ros.segmenter.segmenter import RowFeatures
from tttkd_ros.teacher.feature_colours import MIN_FEATURES, FeatureColours
from tttkd_ros.threads import join

SAMPLE = 2000  # rows of the first sweep, evenly spaced, that the features' colours follow from
NO_FEATURES = 96  # grey of a point out of range


class Overlays:
    """Draws the newest labelled sweep in a thread of its own, for cameras whose overlays have a subscriber.

    The colours of features are chosen on the first sweep that is drawn. They keep their meaning from then on.

    Args:
        cameras: give the images.
        palette: (256, 3) uint8.
        labels, features: publishers of each camera's two overlays. A student that cannot predict the teacher's features
            has none for features.
        predict: gives the teacher's features (R, dim), as the student predicts them, of its own (R, channels).
        failures: log of what cannot be drawn.
    """

    def __init__(self, cameras: CameraBuffer, palette: np.ndarray, labels: Mapping, features: Mapping,
                 predict: Callable[[Tensor], Tensor], failures: ThrottledLog):
        self._cameras = cameras
        self._palette = palette
        self._labels, self._features = labels, features
        self._predict = predict
        self._colours: FeatureColours | None = None
        self._failures = failures
        self._newest: LabelledSweep | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="overlays", daemon=True)
        self._thread.start()

    def submit(self, sweep: LabelledSweep) -> None:
        """Draw this sweep next, in place of one that still waits; never wait."""
        if _wanted(self._labels) or _wanted(self._features):
            with self._changed:
                self._newest = sweep
                self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        join(self._thread)

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
        labels, features = _wanted(self._labels), _wanted(self._features)
        names = tuple(dict.fromkeys(labels + features))
        frame = self._cameras.frame(sweep.scan, sweep.points, sweep.frame_id, names, sweep.times)
        feature_colours = self._feature_colours(sweep.row_features) if features else None
        for view in frame.views:
            if view.name in labels:
                self._publish(self._labels, view, frame.projectable, self._palette[sweep.labels])
            if view.name in features and feature_colours is not None:
                self._publish(self._features, view, frame.projectable, feature_colours)

    def _publish(self, publishers: Mapping, view: View, points: np.ndarray, colours: np.ndarray) -> None:
        image = draw_points(view, points, colours)
        publishers[view.name].publish(image_message(image, view.stamp, self._cameras.frame_id(view.name)))

    @torch.inference_mode()
    def _feature_colours(self, features: RowFeatures | None) -> np.ndarray | None:
        """Return a colour (N, 3) uint8 for each point; None while there were too few points to choose colours."""
        if features is None:
            return None
        predicted = self._predict(features.rows).float().cpu().numpy()
        if self._colours is None:
            if len(predicted) < MIN_FEATURES:
                return None
            self._colours = FeatureColours(predicted[::-(-len(predicted) // SAMPLE)])
        colours = np.full((len(features.in_range), 3), NO_FEATURES, np.uint8)
        colours[features.in_range.numpy()] = self._colours(predicted)[features.row.cpu().numpy()]
        return colours


def _wanted(publishers: Mapping) -> tuple[str, ...]:
    return tuple(name for name, publisher in publishers.items() if publisher.get_subscription_count() > 0)
