"""The guard: checks the evidence before a step, and rolls steps back when the evidence turns bad.

The evidence is the alignment of points that are held out of the step: how much better the student's prediction at a
point agrees with the teacher's patch there than with the patches around it. It needs no scale of its own. With the
right image in the right place, every neighbour agrees less. With wrong extrinsics, some neighbour agrees more. With
another moment's image, noise or a covered lens, it makes no difference. The alignment of one sweep is noisy, so the
mean over several is judged.
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import dataclass
from math import isfinite, nan
from statistics import fmean, median

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.frame import View

HELD_OUT_SHARE, MAX_HELD_OUT = 0.25, 1024  # of the visible points
ALIGNMENT_WINDOW = 5  # steps whose alignment is averaged, and that can be rolled back
HISTORY = 20  # accepted steps that give the mean cosine and the median gradient norm
MIN_HISTORY = 5  # accepted steps from which these are reliable
MIN_TO_PUBLISH = 2  # accepted steps from which weights are published
NEIGHBOUR_DISTANCE = 1 / 28  # of the image's width, but at least one patch
_NEIGHBOURS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1), (0, -2), (0, 2))


@dataclass(frozen=True)
class Evidence:
    """Measured on held-out points before a step. alignment: see `measure`. cosine: mean similarity to the teacher."""

    alignment: float = nan
    cosine: float = nan


def hold_out(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split the numbers from 0 to `count` at random into those to hold out and those to train on, both int64."""
    order = torch.randperm(count, generator=generator)
    held_out = min(int(HELD_OUT_SHARE * count), MAX_HELD_OUT)
    return order[:held_out], order[held_out:]


def measure(predicted: Tensor, table: Tensor, patch: Tensor, grid: tuple[int, int]) -> Evidence:
    """Measure the evidence on H held-out points.

    predicted: (H, D), the student's prediction of the teacher's features. table, patch (H,) and grid: as in `Sample`.
    The alignment is the smallest advantage in cosine of the own patches over those in one neighbouring place, mean over
    points; NaN if no neighbour exists.
    """
    cosine = cosine_similarity(predicted, table[patch], dim=1).mean().item()
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
    return Evidence(smallest, cosine)


@dataclass(frozen=True)
class _AcceptedStep:
    alignment: float
    before: list[Tensor]  # the weights that it started from


class Guard:
    """Remembers the evidence of the last steps, and the weights before them. It knows nothing of the student.

    If `simulated`, a rejection says that the models were trained in simulation only. The guard is `paused` after too
    many rejections in a row: it observes until the evidence is good again.
    """

    def __init__(self, simulated: bool = False):
        self._simulated = simulated
        self._alignments: deque[float] = deque(maxlen=ALIGNMENT_WINDOW)
        self._cosines: deque[float] = deque(maxlen=HISTORY)
        self._norms: deque[float] = deque(maxlen=HISTORY)
        self._accepted: deque[_AcceptedStep] = deque(maxlen=ALIGNMENT_WINDOW)
        self._images: dict[str, tuple[int, int]] = {}
        self._established = False  # at least `MIN_HISTORY` steps were accepted without a roll-back
        self._rejections = 0  # in a row
        self.paused = False

    @property
    def ready_to_publish(self) -> bool:
        """Whether the weights may be used: no step is behind them, or at least `MIN_TO_PUBLISH`."""
        return self._established or not self._cosines or len(self._cosines) >= MIN_TO_PUBLISH

    @property
    def held_back(self) -> list[Tensor] | None:
        """The weights to publish in place of a first step that no second one has confirmed; None if there is none."""
        return None if self.ready_to_publish else self._accepted[0].before

    def check_images(self, views: tuple[View, ...]) -> str:
        """Return why these images cannot be trusted: one is identical to that of an earlier sweep. Empty if none is."""
        images = {view.name: (view.stamp, zlib.crc32(view.image)) for view in views}
        before, self._images = self._images, images
        frozen = [
            name for name, (stamp, content) in images.items()
            if name in before and before[name][0] != stamp and before[name][1] == content
        ]
        return f"the image of {', '.join(frozen)} is frozen: identical to the one before" if frozen else ""

    def check(self, evidence: Evidence, config: TTTConfig) -> str:
        """Return why no step may be taken on this evidence; empty if one may."""
        if not isfinite(evidence.alignment):
            return "the alignment of these points cannot be measured: their patches have no neighbours"
        self._alignments.append(evidence.alignment)
        mean, minimum = fmean(self._alignments), config.min_alignment
        # A mean over few steps has to be higher.
        needed = minimum + abs(minimum) * (1 - len(self._alignments) / ALIGNMENT_WINDOW)
        if mean < needed or evidence.alignment < -abs(minimum):
            found = f"alignment {evidence.alignment:.3f}, mean {mean:.3f}, expected at least {needed:.3g}"
            domain = "they were trained in simulation only" if self._simulated else "train them for it"
            return (f"{found}: the image does not belong to this sweep, or the extrinsics are wrong, or student and "
                    f"teacher do not know this domain ({domain})")
        if len(self._cosines) >= MIN_HISTORY and evidence.cosine < fmean(self._cosines) - config.max_drop:
            return f"cosine {evidence.cosine:.3f} on held-out points, recent mean {fmean(self._cosines):.3f}"
        if self.paused and len(self._alignments) < ALIGNMENT_WINDOW:
            return "paused: not enough evidence yet to continue"
        return ""

    def step_scale(self, norm: float, config: TTTConfig) -> float:
        """Return the share, 0 to 1, of a gradient of this norm to follow.

        One step much longer than the others can undo what they learned, on evidence as good as theirs. The damage shows
        if no further step repairs it: when the next images are rejected. The first steps are short, because too few
        norms are known to tell a long one.
        """
        longest = config.max_gradient * median([*self._norms, norm])
        warm_up = min(1.0, (1 + len(self._norms)) / (1 + MIN_HISTORY))
        return warm_up * min(1.0, longest / norm) if norm > 0 else warm_up

    def accept(self, evidence: Evidence, norm: float, before: list[Tensor]) -> None:
        """Record an accepted step. norm: of its gradient. before: the weights that it started from."""
        self._cosines.append(evidence.cosine)
        self._norms.append(norm)
        self._accepted.append(_AcceptedStep(evidence.alignment, before))
        self._established |= len(self._cosines) >= MIN_HISTORY
        self._rejections, self.paused = 0, False

    def reject(self, config: TTTConfig, weights: list[Tensor]) -> list[Tensor] | None:
        """Record a step that the guard rejected. weights: those that it would have started from.

        Returns the weights to continue from if earlier steps are distrusted, else None. They are those before the first
        recent step below the alignment threshold, or before all steps if few were accepted so far. Otherwise the first
        rejection after accepted steps returns the mean over the last ones: the very last may have done harm that no
        further step will repair.
        """
        self._rejections += 1
        if self._rejections >= config.patience and not self.paused:
            self.paused = True
            self._alignments.clear()
        for index, step in enumerate(self._accepted):
            if not self._established or step.alignment < config.min_alignment:
                for _ in range(len(self._accepted) - index):
                    undone = self._accepted.pop()
                    self._cosines.pop()
                    self._norms.pop()
                return undone.before
        if self._rejections > 1 or len(self._accepted) < 2:
            return None
        iterates = [*(step.before for step in self._accepted), weights][1:]
        return [torch.stack(tensors).mean(0) for tensors in zip(*iterates, strict=True)]
