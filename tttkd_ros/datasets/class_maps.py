"""From the ids of a data set, or of another class set, to those of a class set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tttkd_ros.classes import UNLABELLED, ClassSet, built_in_class_sets

SEMANTIC_KITTI_IDS = {
    0: "unlabeled", 1: "outlier", 10: "car", 11: "bicycle", 13: "bus", 15: "motorcycle", 16: "on-rails", 18: "truck",
    20: "other-vehicle", 30: "person", 31: "bicyclist", 32: "motorcyclist", 40: "road", 44: "parking", 48: "sidewalk",
    49: "other-ground", 50: "building", 51: "fence", 52: "other-structure", 60: "lane-marking", 70: "vegetation",
    71: "trunk", 72: "terrain", 80: "pole", 81: "traffic-sign", 99: "other-object", 252: "moving-car",
    253: "moving-bicyclist", 254: "moving-person", 255: "moving-motorcyclist", 256: "moving-on-rails",
    257: "moving-bus", 258: "moving-truck", 259: "moving-other-vehicle",
}  # fmt: skip

WAYMO_IDS = dict(enumerate((
    "Undefined", "Car", "Truck", "Bus", "Other Vehicle", "Motorcyclist", "Bicyclist", "Pedestrian", "Sign",
    "Traffic Light", "Pole", "Construction Cone", "Bicycle", "Motorcycle", "Building", "Vegetation", "Tree Trunk",
    "Curb", "Road", "Lane Marker", "Other Ground", "Walkable", "Sidewalk",
)))  # fmt: skip


class ClassMap:
    """Maps ids to those of a class set; classes that it ignores become `UNLABELLED`.

    Args:
        names: id -> class of the data set.
        dataset: section of the class set: a data set ("semantickitti"), or the name of another class set.
        strict: refuse ids that have no name. Otherwise they are unlabelled.

    Raises:
        ValueError: the set has no such section, or neither maps nor ignores one of the names.
    """

    def __init__(self, names: Mapping[int, str], dataset: str, class_set: ClassSet, *, strict: bool = True):
        group, ignored = class_set.groups.get(dataset), class_set.ignored.get(dataset, ())
        if group is None:
            known = ", ".join(sorted(class_set.groups)) or "nothing"
            raise ValueError(f"class set {class_set.name!r} says nothing of {dataset!r}, only of {known}: use another "
                             f"set ({', '.join(built_in_class_sets())}, or a file), or add {dataset!r} under the "
                             "'from' of its classes")
        if unknown := sorted({name for name in names.values() if name not in group and name not in ignored}):
            raise ValueError(f"class set {class_set.name!r} says nothing of {dataset}'s {', '.join(map(repr, unknown))}"
                             ": map it or list it under ignored")
        self.names, self._strict = names, strict
        self._ids = np.array(sorted(names), np.int64)
        ids = {name: class_set.names.index(own) for name, own in group.items()}
        self._classes = np.array([ids.get(names[key], UNLABELLED) for key in self._ids.tolist()], np.uint8)

    @classmethod
    def between(cls, source: ClassSet, target: ClassSet) -> ClassMap:
        """Make the map from labels of one class set to those of another; `UNLABELLED` stays.

        Sets with the same classes in the same order need no section. Raises ValueError as the constructor does.
        """
        names = dict(enumerate(source.names))
        if source.names == target.names:
            target = ClassSet(target.name, target.names, target.colours, {source.name: {n: n for n in target.names}})
        found = cls(names, source.name, target)
        found._ids, found._classes = (np.append(values, values.dtype.type(UNLABELLED))
                                      for values in (found._ids, found._classes))
        return found

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """ids (N,) of any integer type -> (N,) uint8 class ids. Raises ValueError for an unknown id if strict."""
        ids = ids.astype(np.int64)
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        known = self._ids[places] == ids
        if self._strict and not known.all():
            raise ValueError(f"label {ids[~known][0]} is not one of the data set's {len(self._ids)}")
        return np.where(known, self._classes[places], np.uint8(UNLABELLED))
