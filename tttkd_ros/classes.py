"""Class sets: names and colours of the class ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNLABELLED = 255  # no class; losses and metrics ignore it


@dataclass(frozen=True)
class ClassSet:
    """Names in id order, and an RGB colour (0..255) for each."""

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """(256, 3) uint8 colours of all labels. Ids without a class, including `UNLABELLED`, are dark grey."""
        palette = np.full((256, 3), 40, np.uint8)
        palette[: len(self)] = self.colours
        return palette


# The ten classes that A2D2 and SemanticKITTI share (TTT-KD, outdoor experiments; the mapping is xMUDA's).
OUTDOOR = ClassSet(
    "outdoor10",
    ("car", "truck", "bike", "person", "road", "parking", "sidewalk", "building", "nature", "other-objects"),
    ((0, 110, 255), (120, 40, 200), (0, 220, 220), (255, 40, 40), (150, 90, 150), (255, 150, 255), (220, 30, 200),
     (255, 200, 0), (40, 170, 60), (255, 120, 40)),
)

# The classes of the single-scan benchmark of SemanticKITTI, with the colours of its API.
SEMANTIC_KITTI = ClassSet(
    "semantickitti19",
    ("car", "bicycle", "motorcycle", "truck", "other-vehicle", "person", "bicyclist", "motorcyclist", "road", "parking",
     "sidewalk", "other-ground", "building", "fence", "vegetation", "trunk", "terrain", "pole", "traffic-sign"),
    ((100, 150, 245), (100, 230, 245), (30, 60, 150), (80, 30, 180), (0, 0, 255), (255, 30, 30), (255, 40, 200),
     (150, 30, 90), (255, 0, 255), (255, 150, 255), (75, 0, 75), (175, 0, 75), (255, 200, 0), (255, 120, 50),
     (0, 175, 0), (135, 60, 0), (150, 240, 80), (255, 240, 150), (255, 0, 0)),
)

# The classes of the lidarseg challenge of nuScenes, with the colours of its devkit.
NUSCENES = ClassSet(
    "nuscenes16",
    ("barrier", "bicycle", "bus", "car", "construction_vehicle", "motorcycle", "pedestrian", "traffic_cone", "trailer",
     "truck", "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation"),
    ((112, 128, 144), (220, 20, 60), (255, 127, 80), (255, 158, 0), (233, 150, 70), (255, 61, 99), (0, 0, 230),
     (47, 79, 79), (255, 140, 0), (255, 99, 71), (0, 207, 191), (175, 0, 75), (75, 0, 75), (112, 180, 60),
     (222, 184, 135), (0, 175, 0)),
)

CLASS_SETS = {class_set.name: class_set for class_set in (OUTDOOR, SEMANTIC_KITTI, NUSCENES)}
