"""Whether sweeps still show one and the same: a robot that stands must not go on learning from a single scene.

Many steps on one scene undo what was learnt elsewhere, and no evidence speaks against any of them: the images do belong
to their sweeps. The point cloud tells whether the view has changed; no odometry is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tttkd_ros.segmenter.voxels import GRID, keys_of

CELL = 5  # voxels along an edge: wider than noise moves a point, and narrower than what tells one place from the next
# Of a sweep's occupied cells, the share that the scene's first sweep occupied, too, from which they show the same. With
# cells of 0.5 m a standing simulated vehicle has at least 0.69, traffic included, and one that drives at most 0.59 of
# what it saw four metres before (docs/real-time.md).
SAME = 0.65


class Scene:
    """What was learnt since the view last changed. steps: gradient steps; updates: of BatchNorm's statistics.

    voxel_size: the student's, metres.
    """

    def __init__(self, voxel_size: float):
        self._cell = CELL * voxel_size
        self._first: Tensor | None = None
        self.steps = self.updates = 0

    def look(self, points: Tensor) -> None:
        """At every sweep that might be learnt from: points (N, 3), metres, LiDAR frame, in the student's grid.

        Both counts are 0 afterwards if it shows another scene than before. An empty sweep shows none.
        """
        cell = (points / self._cell).floor_().long() + GRID // 2
        cells = torch.unique(keys_of(0, *cell.T))
        if self._first is None or torch.isin(cells, self._first).float().mean() < SAME:  # NaN of none
            self._first = cells
            self.steps = self.updates = 0
