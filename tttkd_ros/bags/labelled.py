"""Recorded predictions: the labelled clouds of a bag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.messages.point_cloud import decode_field
from tttkd_ros.messages.stamps import nanoseconds


def read_labelled(path: Path | str, topic: str | None = None) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Stamp (ns), labels (N,) uint8 and confidence (N,) float32 of each recorded ~/points_labeled, as recorded.

    topic: where the bag has several that could be it.
    """
    with open_bag(path) as bag:
        topic = topic or topics.labelled_topic(bag.types)
        topics.require(bag.types, topic, topics.CLOUD)
        for record in bag.messages([topic]):
            message = bag.decode(record)
            stamp = nanoseconds(message.header.stamp)
            try:
                labels, confidence = decode_field(message, "label"), decode_field(message, "confidence")
            except ValueError as error:
                raise ValueError(f"bag {path}, {topic} stamped {stamp}: {error}") from error
            if labels.dtype != np.uint8:
                raise ValueError(f"bag {path}, {topic} stamped {stamp}: labels are {labels.dtype}, expected uint8")
            yield stamp, labels.copy(), confidence.astype(np.float32)
