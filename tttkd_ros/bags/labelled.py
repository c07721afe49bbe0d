"""Labels in the clouds of a bag: recorded predictions, and the truth."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import Bag, open_bag
from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.messages.point_cloud import DATATYPES, FLOAT32, UINT8, decode_cloud, decode_field
from tttkd_ros.messages.stamps import nanoseconds

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RecordedPrediction:
    """A message of ~/points_labeled. stamp, arrived: of the sweep and of the recording, ns. points: (N, 3) metres."""

    stamp: int
    arrived: int
    frame_id: str
    points: np.ndarray  # float32
    labels: np.ndarray  # uint8
    confidence: np.ndarray  # float32


def read_labelled(path: Path | str) -> Iterator[RecordedPrediction]:
    """Yield a bag's predictions in the order of recording. Raises ValueError if it cannot be read or has none."""
    with open_bag(path) as bag:
        if bag.damage is not None:
            log.warning("recording %s: %s", path, bag.damage)
        topic = topics.labelled_topic(bag.types)
        for record in bag.messages([topic]):
            message = bag.decode(record)
            stamp = nanoseconds(message.header.stamp)
            try:
                cloud, confidence = decode_cloud(message), decode_field(message, "confidence")
                labels = decode_field(message, "label")
                if labels.dtype != np.uint8:
                    raise ValueError(f"labels are {labels.dtype}, expected uint8")
            except ValueError as error:
                raise ValueError(f"bag {path}, {topic} stamped {stamp}: {error}") from error
            yield RecordedPrediction(
                stamp, record.time, message.header.frame_id, cloud.points, labels.copy(), confidence.astype(np.float32)
            )


def labelled_stamps(path: Path | str) -> list[int]:
    """The stamps (ns) of what `read_labelled` yields, in its order, without decoding the clouds."""
    with open_bag(path) as bag:
        return [record.stamp for record in bag.messages([topics.labelled_topic(bag.types)])]


def find_truth(bag: Bag, points_topic: str, first_sweep, requested: str | None = None) -> str | None:
    """Choose the topic of the truth. Raises ValueError if the requested one has no labels.

    Without a request it is `topics.TRUTH_TOPIC`, or else the sweeps' own topic, which stands for their field `label`,
    if their layout is that of `encode_labelled`. Labels in another layout may mean anything: they are not used.
    """
    topic = requested or (topics.TRUTH_TOPIC if bag.counts[topics.TRUTH_TOPIC] else None)
    if topic is None:
        fields = {(field.name, field.datatype) for field in first_sweep.fields}
        if fields >= {("label", UINT8), ("confidence", FLOAT32), ("rgb", FLOAT32)}:
            return points_topic
        if has_labels(first_sweep):
            log.warning("the field 'label' of %s is not used as truth: if it holds this model's class ids, give "
                        "--truth-topic %s", points_topic, points_topic)
        return None
    topics.require(bag.types, topic, topics.CLOUD)
    if not bag.counts[topic]:
        raise ValueError(f"bag {bag.path} holds no message on {topic}, expected at least one")
    if topic == points_topic and not has_labels(first_sweep):
        raise ValueError(f"bag {bag.path} has no truth on {topic}: expected a field 'label' of whole numbers in its "
                         "clouds")
    return topic


def find_class_set(bag: Bag, labelled_topic: str) -> ClassSet | None:
    """Read which class set the labels on a topic have; None if the bag does not say. Raises ValueError if damaged."""
    topic = topics.label_info_topic(labelled_topic)
    if bag.types.get(topic) != topics.TEXT or not bag.counts[topic]:
        return None
    try:
        return ClassSet.of_label_info(bag.first(topic).data)
    except ValueError as error:
        raise ValueError(f"bag {bag.path}, {topic}: {error}") from error


def has_labels(cloud) -> bool:
    """Tell if a PointCloud2 has a field `label` of whole numbers, whatever they mean."""
    return any(field.name == "label" and DATATYPES.get(field.datatype, "")[:1] in ("i", "u") for field in cloud.fields)


def decode_labels(cloud) -> np.ndarray:
    """Copy the field `label` of a PointCloud2: (N,) uint8. Raises ValueError unless it is whole numbers up to 255."""
    labels = decode_field(cloud, "label")
    if labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() <= UNLABELLED):
        raise ValueError(f"labels are {labels.dtype}, expected whole numbers from 0 to {UNLABELLED}")
    return labels.astype(np.uint8)
