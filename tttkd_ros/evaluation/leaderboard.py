"""Figures of a benchmark: mIoU, IoU of each class, the gap closed to an oracle, and comparisons between runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.evaluation.metrics import class_iou, worst_class
from tttkd_ros.evaluation.result import Result
from tttkd_ros.methods import FROZEN, ONLINE_KD, ORACLE

IN_DISTRIBUTION = "in distribution"
MAIN_SHIFT = "kitti"
MIN_GAP = 1.0  # points of mIoU between frozen and oracle, below which a share of the gap says nothing


class WorstClass(NamedTuple):
    """The class that loses most against frozen, the shift where it does, and the change in points of IoU."""

    name: str
    shift: str
    change: float


class Leaderboard:
    """Figures of a benchmark's results: the same runs for every drive, the same seeds for every shift.

    Args:
        results: shift and seed -> the runs on that drive; the frozen student's is among them. The shift may be a
            recorded drive, and the seed None then.
        groups: name of a group -> its shifts. Shifts that were not run are ignored.

    Attributes:
        seeds: of the drives.
        shifts: group -> its shifts that were run.
        away: the shifts that are not in distribution.
        titles: of the runs.
        oracle: number of the oracle's run; None if there is none.
        ours: number of the online TTT-KD run that others are compared with: no control, and of several the one whose
            settings are nearest to the defaults. None if there is none.
    """

    def __init__(self, results: Mapping[tuple[str, int | None], Sequence[Result]], groups: Mapping[str, Sequence[str]]):
        self._results = results
        self.seeds = sorted({seed for _, seed in results})
        present = {shift for shift, _ in results}
        by_group = {group: [shift for shift in shifts if shift in present] for group, shifts in groups.items()}
        self.shifts = {group: shifts for group, shifts in by_group.items() if shifts}
        self.away = [shift for group, shifts in self.shifts.items() if group != IN_DISTRIBUTION for shift in shifts]
        runs = next(iter(results.values()))
        self.titles = [run.title for run in runs]
        self.class_names, self.sweeps = runs[0].class_names, runs[0].sweeps
        names = [run.name for run in runs]
        self.frozen = names.index(FROZEN)
        self.oracle = names.index(ORACLE) if ORACLE in names else None
        candidates = [
            number for number, run in enumerate(runs) if run.name == ONLINE_KD and run.settings.get("control") is None
        ]
        self.ours = min(candidates, key=lambda number: _changed(runs[number]), default=None)

    @cached_property
    def miou(self) -> dict[str, np.ndarray]:
        """Shift -> mIoU in per cent, (runs, seeds)."""
        return self._by_shift(Result.miou)

    @cached_property
    def seen(self) -> dict[str, np.ndarray]:
        """As `miou`, of the points that a camera sees."""
        return self._by_shift(lambda result: result.miou(visible=True))

    def overall(self, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Mean of a figure over all shifts that are not in distribution, (runs, seeds); None if there are none."""
        return np.mean([values[shift] for shift in self.away], axis=0) if self.away else None

    def gap_closed(self, miou: np.ndarray) -> np.ndarray:
        """Share of the gap from frozen (the paper's Joint-Train) to the oracle that a run closes, in per cent.

        Args:
            miou: (runs, seeds).

        Returns (runs, seeds): NaN for seeds whose gap is below `MIN_GAP`. Raises ValueError without an oracle.
        """
        if self.oracle is None:
            raise ValueError("no run of an oracle: the gap to it is not known")
        frozen = miou[self.frozen]
        gap = miou[self.oracle] - frozen
        return 100.0 * (miou - frozen) / np.where(gap < MIN_GAP, np.nan, gap)

    def class_iou(self, shifts: Sequence[str]) -> np.ndarray:
        """IoU of each class in per cent, mean over shifts, (runs, seeds, classes); NaN for a class without truth."""
        values = [100.0 * class_iou(self._matrices[shift]) for shift in shifts]
        return np.ma.masked_invalid(values).mean(0).filled(np.nan)

    def worst_class(self, run: int, shifts: Sequence[str]) -> WorstClass | None:
        """Find the class and the shift where a run loses most against frozen. The seeds' points are pooled."""
        found = []
        for shift in shifts:
            pooled = self._matrices[shift].sum(1)
            if (worst := worst_class(pooled[run], pooled[self.frozen])) is not None:
                found.append(WorstClass(self.class_names[worst[0]], shift, worst[1]))
        return min(found, key=lambda each: each.change, default=None)

    def lead(self, other: int, shifts: Sequence[str]) -> np.ndarray:
        """mIoU of `ours` minus that of another run, (shifts, seeds)."""
        return np.array([self.miou[shift][self.ours] - self.miou[shift][other] for shift in shifts])

    def ahead(self, other: int) -> list[str]:
        """Shifts, not in distribution, on which `ours` has a higher mean mIoU than another run."""
        return [shift for shift in self.away if self.lead(other, [shift]).mean() > 0]

    def runs(self, shift: str, seed: int | None) -> Sequence[Result]:
        """The results of one drive."""
        return self._results[shift, seed]

    @cached_property
    def _matrices(self) -> dict[str, np.ndarray]:
        """Shift -> confusion matrices, (runs, seeds, C, C + 1)."""
        return self._by_shift(Result.matrix)

    def _by_shift(self, figure: Callable[[Result], float | np.ndarray]) -> dict[str, np.ndarray]:
        """Shift -> the figure of every result, (runs, seeds, ...)."""
        return {
            shift: np.array([[figure(run) for run in self.runs(shift, seed)] for seed in self.seeds]).swapaxes(0, 1)
            for shifts in self.shifts.values() for shift in shifts
        }


def _changed(run: Result) -> int:
    """Number of settings that differ from their defaults."""
    defaults = {name: getattr(TTTConfig, name) for name in ("stride", "learning_rate", "bn_momentum")}
    return sum(name in run.settings and run.settings[name] != value for name, value in defaults.items())
