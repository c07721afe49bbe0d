"""A benchmark: the drives, the runs on them, and where their results stand in the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tttkd_ros.datasets.parts import Part
from tttkd_ros.evaluation.leaderboard import Leaderboard
from tttkd_ros.evaluation.published import PublishedRow
from tttkd_ros.evaluation.result import Result, joined
from tttkd_ros.evaluation.trials import Setup


@dataclass(frozen=True)
class Benchmark:
    """parts: name -> drive. cells: (shift, seed) -> names of its drives, see `Leaderboard`. groups: name -> shifts.

    published: the rows of a paper's table; empty if there is none.
    """

    parts: Mapping[str, Part]
    setup: Setup
    cells: Mapping[tuple[str, int | None], Sequence[str]]
    groups: Mapping[str, Sequence[str]]
    published: Sequence[PublishedRow] = ()

    def board(self, results: Mapping[str, Sequence[Result]]) -> Leaderboard:
        """Compute the figures. results: name of a drive -> its runs. The drives of a cell count as one."""
        runs = {cell: list(zip(*(results[name] for name in names), strict=True)) for cell, names in self.cells.items()}
        return Leaderboard({cell: [each[0] if len(each) == 1 else joined(each) for each in found]
                            for cell, found in runs.items()}, self.groups)
