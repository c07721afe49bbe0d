"""Cut a scene to the surroundings of what the cameras see.

A point that no camera sees has no part in the loss. Far from the visible ones it has no influence on their features
either, but it costs as much time in the forward and backward passes as they do.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from tttkd_ros.adaptation.ttt_kd import Scene
from tttkd_ros.segmenter.voxels import cube_keys


def crop(scene: Scene, edge: float) -> Scene:
    """Keep the points in those cubes that have a visible point. edge: of a cube, metres."""
    cubes = cube_keys(scene.points.xyz, edge)
    kept = torch.isin(cubes, torch.unique(cubes[scene.index]))
    return replace(scene, points=scene.points[kept], index=(kept.cumsum(0) - 1)[scene.index], prepared={})
