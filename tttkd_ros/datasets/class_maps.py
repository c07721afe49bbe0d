"""How the data sets' own classes map to the ten outdoor ones. Names that are not listed are unlabelled.

SemanticKITTI and A2D2 follow TTT-KD's outdoor experiments, whose mapping is xMUDA's. nuScenes' classes are mapped by
analogy. Its driveable surface includes parking areas, its `static.manmade` poles, signs and fences.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tttkd_ros.classes import OUTDOOR, UNLABELLED

SEMANTIC_KITTI_IDS = {
    0: "unlabeled", 1: "outlier", 10: "car", 11: "bicycle", 13: "bus", 15: "motorcycle", 16: "on-rails", 18: "truck",
    20: "other-vehicle", 30: "person", 31: "bicyclist", 32: "motorcyclist", 40: "road", 44: "parking", 48: "sidewalk",
    49: "other-ground", 50: "building", 51: "fence", 52: "other-structure", 60: "lane-marking", 70: "vegetation",
    71: "trunk", 72: "terrain", 80: "pole", 81: "traffic-sign", 99: "other-object", 252: "moving-car",
    253: "moving-bicyclist", 254: "moving-person", 255: "moving-motorcyclist", 256: "moving-on-rails",
    257: "moving-bus", 258: "moving-truck", 259: "moving-other-vehicle",
}  # fmt: skip

SEMANTIC_KITTI = {
    "car": ("car", "moving-car"),
    "truck": ("truck", "moving-truck"),
    "bike": ("bicycle", "motorcycle", "bicyclist", "motorcyclist", "moving-bicyclist", "moving-motorcyclist"),
    "person": ("person", "moving-person"),
    "road": ("road", "lane-marking"),
    "parking": ("parking",),
    "sidewalk": ("sidewalk",),
    "building": ("building",),
    "nature": ("vegetation", "trunk", "terrain"),
    "other-objects": ("fence", "pole", "traffic-sign", "other-object"),
}  # fmt: skip

A2D2 = {
    "car": ("Car 1", "Car 2", "Car 3", "Car 4", "Ego car"),
    "truck": ("Truck 1", "Truck 2", "Truck 3"),
    "bike": (
        "Bicycle 1", "Bicycle 2", "Bicycle 3", "Bicycle 4", "Small vehicles 1", "Small vehicles 2", "Small vehicles 3",
    ),
    "person": ("Pedestrian 1", "Pedestrian 2", "Pedestrian 3"),
    "road": (
        "RD normal street", "Zebra crossing", "Solid line", "Dashed line", "Painted driv. instr.",
        "Drivable cobblestone", "RD restricted area", "Slow drive area",
    ),
    "parking": ("Parking area",),
    "sidewalk": ("Sidewalk", "Curbstone"),
    "building": ("Buildings",),
    "nature": ("Nature object",),
    "other-objects": (
        "Poles", "Traffic sign 1", "Traffic sign 2", "Traffic sign 3", "Traffic guide obj.", "Sidebars",
        "Speed bumper", "Road blocks", "Obstacles / trash", "Animals", "Grid structure", "Signal corpus",
        "Electronic traffic", "Traffic signal 1", "Traffic signal 2", "Traffic signal 3",
    ),
}  # fmt: skip

NUSCENES = {
    "car": ("vehicle.car",),
    "truck": ("vehicle.truck",),
    "bike": ("vehicle.bicycle", "vehicle.motorcycle"),
    "person": (
        "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
        "human.pedestrian.police_officer",
    ),
    "road": ("flat.driveable_surface",),
    "sidewalk": ("flat.sidewalk",),
    "building": ("static.manmade",),
    "nature": ("flat.terrain", "static.vegetation"),
    "other-objects": (
        "animal", "movable_object.barrier", "movable_object.debris", "movable_object.pushable_pullable",
        "movable_object.trafficcone",
    ),
}  # fmt: skip


class ClassMap:
    """Maps a data set's ids to class ids; unlisted names become `UNLABELLED`.

    names: id -> the data set's name. groups: class -> names. strict: refuse unknown ids instead of unlabelling them.
    """

    def __init__(self, names: Mapping[int, str], groups: Mapping[str, tuple[str, ...]], *, strict: bool = True):
        self.names, self._strict = names, strict
        classes = {name: OUTDOOR.names.index(group) for group, members in groups.items() for name in members}
        self._ids = np.array(sorted(names), np.int64)
        self._classes = np.array([classes.get(names[key], UNLABELLED) for key in self._ids.tolist()], np.uint8)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """ids (N,) of any integer type -> (N,) uint8 class ids. Raises ValueError for an unknown id if strict."""
        ids = ids.astype(np.int64)
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        known = self._ids[places] == ids
        if self._strict and not known.all():
            raise ValueError(f"label {ids[~known][0]} is not one of the data set's {len(self._ids)}")
        return np.where(known, self._classes[places], np.uint8(UNLABELLED))


semantic_kitti_classes = ClassMap(SEMANTIC_KITTI_IDS, SEMANTIC_KITTI)
