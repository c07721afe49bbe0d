"""The guard: checks the evidence before a step.

The evidence is the alignment of a sweep before its first step: how much better the student's prediction at a point
agrees with the teacher's patch there than with the patches around it. It needs no scale of its own. With the right
image in the right place, every neighbour agrees less. With wrong extrinsics, some neighbour agrees more. With another
moment's image, noise or a covered lens, it makes no difference. The alignment of one sweep is noisy, so that of one
sweep must only not be negative, and the mean over several must be high enough.
"""

from __future__ import annotations

import zlib
from collections import deque
from math import isfinite, nan
from statistics import fmean

from torch import Tensor
from torch.nn.functional import normalize

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.frame import View

MAX_POINTS = 4096  # of a sweep, evenly spaced, that the alignment is measured on
ALIGNMENT_WINDOW = 5  # sweeps whose alignment is averaged
NEIGHBOUR_DISTANCE = 1 / 28  # of the image's width, but at least one patch
_NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1), (0, -2), (0, 2))


def measure(predicted: Tensor, table: Tensor, patch: Tensor, grid: tuple[int, int]) -> float:
    """Measure the alignment of points.

    predicted: (M, D), the student's prediction of the teacher's features. table, patch (M,) and grid: as in `Scene`.
    Returns the smallest advantage in cosine of the own patches over those in one neighbouring place, mean over points;
    NaN if no neighbour exists.
    """
    rows, columns = grid
    step = max(1, round(NEIGHBOUR_DISTANCE * columns))
    predicted, table = normalize(predicted, dim=1), normalize(table, dim=1)
    row, column = patch % (rows * columns) // columns, patch % columns
    own = (predicted * table[patch]).sum(1)
    smallest = nan
    for down, right in _NEIGHBOURS:
        inside = (row + down * step >= 0) & (row + down * step < rows)
        inside &= (column + right * step >= 0) & (column + right * step < columns)
        if inside.any():
            neighbour = table[patch[inside] + (down * columns + right) * step]
            advantage = (own[inside] - (predicted[inside] * neighbour).sum(1)).mean().item()
            smallest = advantage if not advantage >= smallest else smallest
    return smallest


class Guard:
    """Remembers the alignment of the last sweeps. It knows nothing of the student.

    If `simulated`, a rejection says that the models were trained in simulation only.

    Attributes:
        paused: after too many rejections in a row, the guard observes until the alignment is good again.
        distrusts: it rejected the last images that it checked.
    """

    def __init__(self, simulated: bool = False):
        self._simulated = simulated
        self._alignments: deque[float] = deque(maxlen=ALIGNMENT_WINDOW)
        self._images: dict[str, tuple[int, int]] = {}
        self._rejections = 0  # in a row
        self.paused = self.distrusts = False

    def check_images(self, views: tuple[View, ...]) -> str:
        """Return why these images cannot be trusted: one is identical to that of an earlier sweep. Empty if none is."""
        images = {view.name: (view.stamp, zlib.crc32(view.image)) for view in views}
        before, self._images = self._images, images
        frozen = [
            name for name, (stamp, content) in images.items()
            if name in before and before[name][0] != stamp and before[name][1] == content
        ]
        return f"the image of {', '.join(frozen)} is frozen: identical to the one before" if frozen else ""

    def check(self, alignment: float, config: TTTConfig) -> str:
        """Return why no step may be taken at this alignment; empty if one may."""
        if not isfinite(alignment):
            return "the alignment of these points cannot be measured: their patches have no neighbours"
        self._alignments.append(alignment)
        mean, minimum = fmean(self._alignments), config.min_alignment
        # A mean over few sweeps has to be higher.
        needed = minimum + abs(minimum) * (1 - len(self._alignments) / ALIGNMENT_WINDOW)
        if mean < needed or alignment < min(minimum, 0.0):
            found = f"alignment {alignment:.3f}, mean {mean:.3f}, expected at least {needed:.3g}"
            domain = "they were trained in simulation only" if self._simulated else "train them for it"
            return (f"{found}: the image does not belong to this sweep, or the extrinsics are wrong, or student and "
                    f"teacher do not know this domain ({domain})")
        if self.paused and len(self._alignments) < ALIGNMENT_WINDOW:
            return "paused: not enough evidence yet to continue"
        self.distrusts = False
        return ""

    def accept(self) -> None:
        """Record that a step was accepted."""
        self._rejections, self.paused = 0, False

    def reject(self, patience: int) -> None:
        """Record that the guard rejected a step, and pause at `patience` rejections in a row."""
        self._rejections, self.distrusts = self._rejections + 1, True
        if self._rejections >= patience and not self.paused:
            self.paused = True
            self._alignments.clear()
