"""Training on a share of the labelled frames, for the same number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tttkd_ros.training.preparation import PreparedPart, frame_path
from tttkd_ros.training.prepared import read_frame


class LabelShare:
    """The labelled frames that a training uses: the first ones in an order of all frames that the seed draws. So a
    smaller share is part of a larger one. It has at least one frame.

    numbers: of the frames used, a list for each part.
    """

    def __init__(self, parts: Sequence[PreparedPart], share: float, seed: int):
        self._parts, self._total = parts, sum(part.frames for part in parts)
        order = np.random.default_rng((seed, 5)).permutation(self._total)
        chosen = np.sort(order[: max(round(share * self._total), 1)])
        starts = np.cumsum([part.frames for part in parts])
        self.numbers = [(each - start).tolist() for each, start in
                        zip(np.split(chosen, np.searchsorted(chosen, starts[:-1])), [0, *starts[:-1]], strict=True)]

    def paths(self) -> list[Path]:
        """Return as many files as there are frames in all: those used, over and over. So an epoch has as many steps as
        one of all frames, and a batch may have a frame twice."""
        used = self._used()
        return [used[number % len(used)] for number in range(self._total)]

    def label_counts(self) -> np.ndarray:
        """Return (256,), how many points of the frames used have each label."""
        used = self._used()
        if len(used) == self._total:
            return sum(part.label_counts for part in self._parts)
        return sum(np.bincount(read_frame(path).labels.numpy(), minlength=256) for path in used)

    def __str__(self) -> str:
        used = sum(map(len, self.numbers))
        if used == self._total:
            return f"all {used}"
        lists = (f"{part.name} {' '.join(map(str, numbers))}"
                 for part, numbers in zip(self._parts, self.numbers, strict=True) if numbers)
        return f"{used} of {self._total}: {', '.join(lists)}"

    def _used(self) -> list[Path]:
        return [frame_path(part.folder, number) for part, numbers in zip(self._parts, self.numbers, strict=True)
                for number in numbers]
