"""A control teacher that knows nothing about the scene. A gain that remains does not come from the teacher."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from tttkd_ros.adaptation.targets import Teacher


class MeanFeatures:
    """Returns one feature map for every image: the mean over some images of another teacher's features, per patch."""

    def __init__(self, teacher: Teacher, images: Sequence[np.ndarray]):
        if not len(images):
            raise ValueError("no images: the mean feature map needs at least one")
        self.dim, self.grid = teacher.dim, teacher.grid
        total = sum(teacher([image])[0].double() for image in images)  # one by one, to save memory
        self._map = (total / len(images)).float()

    def __call__(self, images: Sequence[np.ndarray]) -> Tensor:
        """(B, rows, columns, dim), a view of the same map for each of B images."""
        return self._map.expand(len(images), *self._map.shape)
