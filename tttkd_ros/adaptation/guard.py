"""Whether a step may be taken: on evidence from points that it will not train on, before anything is changed.

The evidence is alignment: by how much the student's answer at a point agrees better with the teacher's patch there than
with the patches around it. It needs no scale of its own: with the right image in the right place every neighbour agrees
less; with wrong extrinsics some neighbour agrees more; with another moment's image, noise or a covered lens it makes no
difference. One sweep's alignment is noisy, so a few are averaged.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass
from math import isfinite
from statistics import fmean, median

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.frame import View

SHARE, MOST = 0.25, 1024  # of the visible points that are held out of a step: this share, but no more than so many
WINDOW = 5  # steps whose alignment is averaged, and that can be undone
HISTORY = 20  # accepted steps whose cosine and gradient norm say what is usual
USUAL = 5  # of them that it takes to say so
VOUCHED = 2  # of them that it takes for the weights to be published
SHIFT = 1 / 28  # of the image's width, but at least a patch: how far the places are that a point's own is held against
_AROUND = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1), (0, -2), (0, 2))


def alignment(predicted: Tensor, table: Tensor, patch: Tensor, grid: tuple[int, int]) -> float:
    """The least advantage in cosine, mean over points, of the points' own patches over those in a place nearby.

    predicted: (M, D), of held-out points. table: (views x rows x columns, D), the teacher's centred features. patch:
    (M,) row of the table for each point. NaN where there is no place to compare with.
    """
    rows, columns = grid
    step = max(1, round(SHIFT * columns))
    predicted, table = normalize(predicted, dim=1), normalize(table, dim=1)
    row, column = patch % (rows * columns) // columns, patch % columns
    own = (predicted * table[patch]).sum(1)
    least = float("nan")
    for down, right in _AROUND:
        there = (row + down * step >= 0) & (row + down * step < rows)
        there &= (column + right * step >= 0) & (column + right * step < columns)
        if there.any():
            other = table[patch[there] + (down * columns + right) * step]
            advantage = (own[there] - (predicted[there] * other).sum(1)).mean().item()
            least = advantage if not advantage >= least else least
    return least


@dataclass(frozen=True)
class _Taken:
    alignment: float
    before: list[Tensor]


class Guard:
    """What the last steps looked like, and what the weights were before them.

    simulated: the models were trained in simulation alone, which a refusal then says.
    """

    def __init__(self, simulated: bool = False):
        self._simulated = simulated
        self._alignments: deque[float] = deque(maxlen=WINDOW)
        self._cosines: deque[float] = deque(maxlen=HISTORY)
        self._norms: deque[float] = deque(maxlen=HISTORY)
        self._taken: deque[_Taken] = deque(maxlen=WINDOW)
        self._images: dict[str, tuple[int, int]] = {}
        self._settled = False  # whether there have been enough steps to stand by
        self._objections = 0
        self.paused = False

    @property
    def vouches(self) -> bool:
        """Whether predictions may be made with the weights: no step is behind them, or enough of them are."""
        return self._settled or not self._cosines or len(self._cosines) >= VOUCHED

    def objects_to_images(self, views: tuple[View, ...]) -> str:
        """Why not to look any further; empty if nothing is wrong."""
        images = {view.name: (view.stamp, zlib.crc32(view.image)) for view in views}
        before, self._images = self._images, images
        stuck = [
            name for name, (stamp, content) in images.items()
            if name in before and before[name][0] != stamp and before[name][1] == content
        ]
        return f"the image of {', '.join(stuck)} is frozen: the same to the last bit as another before" if stuck else ""

    def objects(self, alignment: float, cosine: float, config: TTTConfig) -> str:
        """Why not to take a step on this evidence; empty if nothing is wrong. cosine: of the held-out points."""
        if not isfinite(alignment):
            return "no alignment to be had of these points"
        self._alignments.append(alignment)
        mean, least = fmean(self._alignments), config.min_alignment
        needed = least + abs(least) * (1 - len(self._alignments) / WINDOW)  # few say less than many
        if mean < needed or alignment < -abs(least):
            found = f"alignment {alignment:.3f}, {mean:.3f} on average, expected {needed:.3g}"
            domain = "they were trained in simulation and know no real one" if self._simulated else "train them for it"
            return (f"{found}: the image is not of this sweep, or the extrinsics are wrong, or student and teacher do "
                    f"not know this domain ({domain})")
        if len(self._cosines) >= USUAL and cosine < fmean(self._cosines) - config.max_drop:
            return f"cosine {cosine:.3f} on held-out points, {fmean(self._cosines):.3f} is usual"
        if self.paused and len(self._alignments) < WINDOW:
            return "not enough evidence yet to go on after a pause"
        return ""

    def share(self, norm: float, config: TTTConfig) -> float:
        """How much of a gradient of this norm to follow, 0 to 1.

        One step far longer than the others can undo what they have learnt, on evidence as good as theirs. That shows
        where no step follows that mends it: when the next images are refused. While few steps tell what is usual, any
        may be far longer, so that the first ones are short.
        """
        longest = config.max_gradient * median([*self._norms, norm])
        warm = min(1.0, (1 + len(self._norms)) / (1 + USUAL))
        return warm * min(1.0, longest / norm) if norm > 0 else warm

    def accept(self, alignment: float, cosine: float, norm: float, before: list[Tensor]) -> None:
        """A step was taken. before: the weights that it started from."""
        self._cosines.append(cosine)
        self._norms.append(norm)
        self._taken.append(_Taken(alignment, before))
        self._settled |= len(self._cosines) >= USUAL
        self._objections, self.paused = 0, False

    def reject(self, config: TTTConfig, weights: list[Tensor]) -> list[Tensor] | None:
        """A step from these weights was not taken. Those to go on from, if they are to be others.

        Undone are steps on less alignment than asked for, which others' average made up for, and what came after; and
        all, where they were only a few: on their own the first steps can do harm that the next ones mend. So can any
        later one; where it would now be the last for a while, the mean over the last steps takes its place.
        """
        self._objections += 1
        if self._objections >= config.patience and not self.paused:
            self.paused = True
            self._alignments.clear()
        for place, step in enumerate(self._taken):
            if not self._settled or step.alignment < config.min_alignment:
                for _ in range(len(self._taken) - place):
                    undone = self._taken.pop()
                    self._cosines.pop()
                    self._norms.pop()
                return undone.before
        if self._objections > 1 or len(self._taken) < 2:
            return None
        iterates = [*(step.before for step in self._taken), weights][1:]
        return [torch.stack(tensors).mean(0) for tensors in zip(*iterates, strict=True)]


def held_out(seen: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers 0 to `seen` in random order, as those to hold out and those to train on."""
    order = torch.randperm(seen, generator=generator)
    count = min(int(SHARE * seen), MOST)
    return order[:count], order[count:]
