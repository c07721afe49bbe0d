"""Limits the steps on one scene, so that a parked robot does not overfit to what it sees.

Many steps on one scene undo what was learned elsewhere, and the guard finds no fault with any of them: the images do
belong to their sweeps. The point cloud alone tells whether the view has changed; no odometry is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttkd_ros.segmenter.voxels import cube_keys

CELL_VOXELS = 5  # edge of a cell. Wider than the noise of a point, narrower than the distance between two views.
MIN_OVERLAP = 0.65  # of a sweep's cells with those of the scene's first sweep (docs/real-time.md)


class SceneLimit:
    """Counts what was learned since the view last changed.

    Args:
        voxel_size: of the student, metres.

    Attributes:
        steps: sweeps of this scene that were trained on.
        bn_updates: updates of the BatchNorm statistics on this scene.
    """

    def __init__(self, voxel_size: float):
        self._cell = CELL_VOXELS * voxel_size
        self._first: Tensor | None = None  # cells of the scene's first sweep
        self.steps = self.bn_updates = 0

    def observe(self, points: Tensor) -> None:
        """Start a new scene, with both counts at 0, if the sweep shows another one.

        points: (N, 3), metres, LiDAR frame, within the student's grid. Call it for every sweep that may be trained on.
        """
        cells = torch.unique(cube_keys(points, self._cell))
        # The mean over an empty sweep is NaN, which is not below the minimum: it keeps the scene.
        if self._first is None or torch.isin(cells, self._first).float().mean() < MIN_OVERLAP:
            self._first = cells
            self.steps = self.bn_updates = 0
