"""Cut a scene to the surroundings of what the cameras see.

A point that no camera sees has no part in the loss. Far from the visible ones it has no influence on their features
either, but it costs as much time in the forward and backward passes as they do.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tttkd_ros.adaptation.ttt_kd import Scene
from tttkd_ros.segmenter.voxels import GRID, keys_of


def crop(scene: Scene, edge: float) -> Scene:
    """Keep the points in those cubes that have a visible point. edge: of a cube, metres."""
    cubes = _cubes(scene.points, edge)
    kept = torch.isin(cubes, torch.unique(cubes[scene.index]))
    return replace(scene, points=scene.points[kept], index=(kept.cumsum(0) - 1)[scene.index], voxels={})


def _cubes(points: Tensor, edge: float) -> Tensor:
    """Return (N,) int64, the number of the cube that each point lies in."""
    return keys_of(0, *((points / edge).floor_().long() + GRID // 2).T)
