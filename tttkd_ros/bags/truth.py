"""Labels in the clouds of a bag: which are truth, and how they are read."""

from __future__ import annotations

import numpy as np

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.messages.point_cloud import DATATYPES, FLOAT32, UINT8, decode_field


def has_labels(cloud) -> bool:
    """Whether a PointCloud2 has a field `label` of whole numbers; their meaning may be anybody's."""
    return any(field.name == "label" and DATATYPES.get(field.datatype, "")[:1] in ("i", "u") for field in cloud.fields)


def is_labelled(cloud) -> bool:
    """Whether a PointCloud2 has the layout of this project's labelled clouds (`encode_labelled`)."""
    fields = {(field.name, field.datatype) for field in cloud.fields}
    return {("label", UINT8), ("confidence", FLOAT32), ("rgb", FLOAT32)} <= fields


def labels_of(cloud) -> np.ndarray:
    """(N,) uint8: the field `label` of a PointCloud2, in memory of its own. Raises ValueError for other numbers."""
    labels = decode_field(cloud, "label")
    if labels.dtype.kind not in "iu" or (len(labels) and not 0 <= labels.min() <= labels.max() <= UNLABELLED):
        raise ValueError(f"labels are {labels.dtype}, expected whole numbers from 0 to {UNLABELLED}")
    return labels.astype(np.uint8)
