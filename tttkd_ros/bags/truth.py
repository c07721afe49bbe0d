"""Truth labels in the clouds of a bag: which topic holds them, and how they are read."""

from __future__ import annotations

import logging

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import Bag
from tttkd_ros.classes import UNLABELLED
from tttkd_ros.messages.point_cloud import DATATYPES, FLOAT32, UINT8, decode_field

log = logging.getLogger(__name__)


def find_truth(bag: Bag, points_topic: str, first_sweep, requested: str | None = None) -> str | None:
    """Choose the topic of the truth.

    Without a request it is `topics.TRUTH_TOPIC`, or else the sweeps' own topic if their layout is this project's.
    Labels in any other layout may have any meaning. They are logged and not used.

    Args:
        bag: an open bag.
        points_topic: the topic of the sweeps.
        first_sweep: a PointCloud2.
        requested: the topic to use. The sweeps' own topic stands for their field `label`.

    Raises:
        ValueError: the requested topic has no labels.
    """
    topic = requested or (topics.TRUTH_TOPIC if bag.counts[topics.TRUTH_TOPIC] else None)
    if topic is None:
        if is_labelled(first_sweep):
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


def has_labels(cloud) -> bool:
    """Tell if a PointCloud2 has a field `label` of whole numbers, whatever they mean."""
    return any(field.name == "label" and DATATYPES.get(field.datatype, "")[:1] in ("i", "u") for field in cloud.fields)


def is_labelled(cloud) -> bool:
    """Tell if a PointCloud2 has the layout of this project's labelled clouds (`encode_labelled`)."""
    fields = {(field.name, field.datatype) for field in cloud.fields}
    return {("label", UINT8), ("confidence", FLOAT32), ("rgb", FLOAT32)} <= fields


def read_labels(cloud) -> np.ndarray:
    """Copy the field `label` of a PointCloud2.

    Returns:
        (N,) uint8.

    Raises:
        ValueError: the labels are not whole numbers from 0 to 255.
    """
    labels = decode_field(cloud, "label")
    if labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() <= UNLABELLED):
        raise ValueError(f"labels are {labels.dtype}, expected whole numbers from 0 to {UNLABELLED}")
    return labels.astype(np.uint8)
