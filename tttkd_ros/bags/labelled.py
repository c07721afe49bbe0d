"""Recorded predictions: the labelled clouds of a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.messages.point_cloud import decode_cloud, decode_field
from tttkd_ros.messages.stamps import nanoseconds, stamp_of_raw


@dataclass(frozen=True, eq=False)
class Answer:
    """One ~/points_labeled as recorded, at the time `arrived`. stamp, arrived: nanoseconds.

    points: (N, 3) float32, metres. labels: (N,) uint8. confidence: (N,) float32.
    """

    stamp: int
    arrived: int
    frame_id: str
    points: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray


def read_labelled(path: Path | str, topic: str | None = None) -> Iterator[Answer]:
    """Each recorded ~/points_labeled, in the order of recording. topic: where the bag has several that could be it."""
    with open_bag(path) as bag:
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
            yield Answer(
                stamp, record.time, message.header.frame_id, cloud.points, labels.copy(), confidence.astype(np.float32)
            )


def labelled_stamps(path: Path | str) -> list[int]:
    """Stamps (ns) of what `read_labelled` reads, in its order; the clouds stay undecoded."""
    with open_bag(path) as bag:
        return [stamp_of_raw(record.data) for record in bag.messages([topics.labelled_topic(bag.types)])]
