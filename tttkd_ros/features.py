"""Features of points, by name: what sensors deliver beside the coordinates, and what can be computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from scipy.spatial import cKDTree

# Name -> numbers per point. "intensity" is as the sensor sends it. "rgb" is in 0..1. "normal" is the unit normal of the
# surface, towards the sensor. "time" is in seconds after the sweep's stamp. "position" is x, y, z in metres, z up, and
# every cloud has it.
WIDTHS: Mapping[str, int] = MappingProxyType({"intensity": 1, "rgb": 3, "normal": 3, "time": 1, "position": 3})
DIRECTIONS = ("normal",)  # these turn with the cloud
COMPUTED = ("position", "normal")  # these need no sensor
NEIGHBOURS = 12  # of a point, that its normal is fitted to


def select(names: Mapping[str, float] | tuple[str, ...], points: np.ndarray,
           features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return (N, C) float32 of each named feature, except "position", and estimate missing normals.

    points: (N, 3), metres, z up. features: (N,) or (N, C) each. A value that is not finite becomes 0: it would spread
    to all points around. Raises ValueError if a feature is missing or of another size.
    """
    chosen = {}
    for name in names:
        if name == "position":
            continue
        if name in features:
            values = np.asarray(features[name], np.float32).reshape(len(points), -1)
        elif name == "normal":
            values = estimate_normals(points)
        else:
            raise ValueError(missing([name], features))
        if values.shape[1] != WIDTHS[name]:
            raise ValueError(f"{name} has {values.shape[1]} numbers per point, expected {WIDTHS[name]}")
        chosen[name] = np.where(np.isfinite(values), values, np.float32(0))
    return chosen


def missing(needed: Mapping[str, float] | list[str] | tuple[str, ...], available: Mapping[str, object]) -> str:
    """Return why a cloud with these features does not serve a student that needs others; empty if it does."""
    lacking = [name for name in needed if name not in available and name not in COMPUTED]
    if not lacking:
        return ""
    return (f"the student takes {' and '.join(lacking)} of every point, but the cloud has only the features "
            f"{', '.join(available) or '(none)'}: use a driver that sends it, or a student without it")


def estimate_normals(points: np.ndarray) -> np.ndarray:
    """Return (N, 3) float32, unit normals towards the sensor at (0, 0, 0), of planes fitted to nearest neighbours.

    points: (N, 3), metres. The normal is 0 at points that are not finite, and where fewer than three are finite.
    """
    normals = np.zeros((len(points), 3), np.float32)
    finite = np.isfinite(points).all(1)
    usable = points[finite].astype(np.float64)
    if len(usable) < 3:
        return normals
    count = min(NEIGHBOURS, len(usable))
    _, neighbours = cKDTree(usable, balanced_tree=False, compact_nodes=False).query(usable, count)
    offsets = usable[neighbours] - usable[neighbours].mean(1, keepdims=True)
    _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", offsets, offsets))
    found = axes[:, :, 0]
    found[(found * usable).sum(1) > 0] *= -1
    normals[finite] = found
    return normals
