"""Reads recorded predictions: the labelled clouds of a bag."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.messages.point_cloud import decode_cloud, decode_field
from tttkd_ros.messages.stamps import nanoseconds, stamp_of_raw

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecordedPrediction:
    """A message of ~/points_labeled.

    stamp, arrived: of the sweep and of the recording, ns. points: (N, 3) float32, metres. labels: (N,) uint8.
    confidence: (N,) float32.
    """

    stamp: int
    arrived: int
    frame_id: str
    points: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray


def read_labelled(path: Path | str, topic: str | None = None) -> Iterator[RecordedPrediction]:
    """Yield the recorded predictions of a bag in the order of recording.

    Args:
        path: the bag.
        topic: needed if the bag has several topics of predictions.

    Raises:
        ValueError: the bag cannot be read, or has no predictions.
    """
    with open_bag(path) as bag:
        if bag.damage is not None:
            log.warning("recording %s: %s", path, bag.damage)
        topic = topic or topics.labelled_topic(bag.types)
        topics.require(bag.types, topic, topics.CLOUD)
        for record in bag.messages([topic]):
            message = bag.decode(record)
            stamp = nanoseconds(message.header.stamp)
            try:
                cloud, confidence = decode_cloud(message), decode_field(message, "confidence")
                labels = decode_field(message, "label")
            except ValueError as error:
                raise ValueError(f"bag {path}, {topic} stamped {stamp}: {error}") from error
            if labels.dtype != np.uint8:
                raise ValueError(f"bag {path}, {topic} stamped {stamp}: labels are {labels.dtype}, expected uint8")
            yield RecordedPrediction(
                stamp, record.time, message.header.frame_id, cloud.points, labels.copy(), confidence.astype(np.float32)
            )


def labelled_stamps(path: Path | str) -> list[int]:
    """The stamps (ns) of what `read_labelled` yields, in its order, without decoding the clouds."""
    with open_bag(path) as bag:
        return [stamp_of_raw(record.data) for record in bag.messages([topics.labelled_topic(bag.types)])]
