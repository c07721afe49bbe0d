"""The visible parts of the simulated street: class of each, and its properties for LiDAR and camera."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tttkd_ros.classes import OUTDOOR, UNLABELLED


class Part(NamedTuple):
    """A material that is visible in an image."""

    name: str
    label: str | None  # class name, None if no LiDAR returns it
    roughness: float  # amplitude of its brightness texture, 0..1
    reflectivity: float  # mean LiDAR intensity, 0..1
    porosity: float = 0.0  # share of LiDAR rays that pass through
    fuzz: float = 0.0  # metres by which its surface scatters returns (foliage)


PARTS = (
    Part("sky", None, 0.0, 0.0),
    Part("road", "road", 0.15, 0.15),
    Part("lane-marking", "road", 0.10, 0.60),
    Part("parking", "parking", 0.25, 0.20),
    Part("sidewalk", "sidewalk", 0.15, 0.30),
    Part("kerb", "sidewalk", 0.10, 0.35),
    Part("grass", "nature", 0.50, 0.45, fuzz=0.03),
    Part("wall", "building", 0.15, 0.40),
    Part("window", "building", 0.25, 0.10, porosity=0.3),
    Part("roof", "building", 0.30, 0.30),
    Part("balcony", "building", 0.15, 0.35),
    Part("car-body", "car", 0.08, 0.50),
    Part("car-window", "car", 0.10, 0.10, porosity=0.4),
    Part("car-wheel", "car", 0.15, 0.10),
    Part("truck-cargo", "truck", 0.08, 0.55),
    Part("truck-cab", "truck", 0.08, 0.45),
    Part("truck-wheel", "truck", 0.15, 0.10),
    Part("bike-frame", "bike", 0.20, 0.40, porosity=0.35),
    Part("rider", "bike", 0.15, 0.35),
    Part("person-body", "person", 0.15, 0.35),
    Part("person-head", "person", 0.10, 0.40),
    Part("trunk", "nature", 0.35, 0.30),
    Part("crown", "nature", 0.60, 0.45, porosity=0.25, fuzz=0.30),
    Part("hedge", "nature", 0.55, 0.45, porosity=0.10, fuzz=0.12),
    Part("pole", "other-objects", 0.08, 0.45),
    Part("sign", "other-objects", 0.05, 0.90),
    Part("fence", "other-objects", 0.20, 0.35, porosity=0.35),
    Part("bin", "other-objects", 0.15, 0.35),
)

PART = {part.name: i for i, part in enumerate(PARTS)}
LABEL_OF_PART = np.array([UNLABELLED if p.label is None else OUTDOOR.names.index(p.label) for p in PARTS], np.uint8)
ROUGHNESS, REFLECTIVITY, POROSITY, FUZZ = np.array([part[2:] for part in PARTS], np.float32).T
