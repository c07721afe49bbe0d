"""Results of a benchmark: mIoU of every run by shift, mean and spread over seeds, and comparisons with TTT-KD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.trials import Trial
from tttkd_ros.methods import ONLINE_KD

IN_DISTRIBUTION = "in distribution"


class Leaderboard:
    """Tables and comparisons of a benchmark's results: the same runs for every trial, the same seeds for every shift.

    groups: name of a group -> its shifts. Shifts that were not run are ignored.
    """

    def __init__(self, results: Mapping[Trial, Sequence[Result]], groups: Mapping[str, Sequence[str]]):
        self._results = results
        self.seeds = sorted({trial.seed for trial in results})
        present = {trial.shift for trial in results}
        by_group = {group: [shift for shift in shifts if shift in present] for group, shifts in groups.items()}
        self.shifts = {group: shifts for group, shifts in by_group.items() if shifts}
        self.titles = [result.title for result in next(iter(results.values()))]
        self._away = [shift for group, shifts in self.shifts.items() if group != IN_DISTRIBUTION for shift in shifts]

    @cached_property
    def miou(self) -> dict[str, np.ndarray]:
        """Shift -> mIoU in per cent, (runs, seeds)."""
        return {
            shift: np.array([[result.miou() for result in self._results[Trial(shift, seed)]] for seed in self.seeds]).T
            for shifts in self.shifts.values() for shift in shifts
        }

    @cached_property
    def overall(self) -> np.ndarray | None:
        """(runs, seeds): mean over all shifts that are not in distribution; None if there are none."""
        return np.mean([self.miou[shift] for shift in self._away], axis=0) if self._away else None

    def verdict(self) -> list[str]:
        """Compare the first online TTT-KD run with every run of another method, in mIoU points, a sentence each."""
        ours = [index for index, title in enumerate(self.titles) if title.startswith(ONLINE_KD)]
        others = [index for index in range(len(self.titles)) if index not in ours]
        return [self._compare(ours[0], other) for other in others] if ours else []

    def _compare(self, ours: int, other: int) -> str:
        gains = {shift: miou[ours] - miou[other] for shift, miou in self.miou.items()}
        home = [gains[shift] for shift in self.shifts.get(IN_DISTRIBUTION, ())]
        below = [shift for shift in self._away if not gains[shift].mean() > 0]
        parts = []
        if shifts := len(self._away):
            exceptions = f" (not on {', '.join(below)})" if below else ""
            gain = _text(np.mean([gains[shift] for shift in self._away], axis=0), "+")
            parts.append(f"{gain} on the mean of {shifts} shifts, above on {shifts - len(below)} of them{exceptions}")
        if home:
            parts.append(f"{_text(np.mean(home, axis=0), '+')} in distribution")
        return f"{ONLINE_KD} against {self.titles[other]}: {'; '.join(parts)}"

    def table(self) -> Table:
        """Table for a terminal, one shift per row."""
        style = {"title_justify": "left", "box": SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False}
        table = Table(title=self._heading(), **style)
        table.add_column("shift", no_wrap=True)
        for title in self.titles:
            table.add_column(title.replace(", ", "\n"), justify="right", overflow="fold")
        for group, rows in self._rows("[bold]{}[/]"):
            table.add_section()
            table.add_row(f"[bold]{group}[/]")
            for shift, *cells in rows:
                table.add_row(f"  {shift}", *cells)
        return table

    def markdown(self) -> str:
        """The same table and the comparisons as Markdown."""
        lines = [f"{self._heading()}:", "", f"| {' | '.join(['shift', *self.titles])} |",
                 "|---" * (1 + len(self.titles)) + "|"]
        for group, rows in self._rows("**{}**"):
            lines.append(f"| *{group}* |" + " |" * len(self.titles))
            lines += [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([*lines, "", *self.verdict()]) + "\n"

    def content(self) -> dict:
        """All results as JSON values."""
        return {
            "seeds": self.seeds,
            "shifts": {
                shift: {"group": group, "runs": [
                    _statistics(title, self.miou[shift][index]) | {
                        "summaries": [self._results[Trial(shift, seed)][index].summary() for seed in self.seeds]
                    }
                    for index, title in enumerate(self.titles)
                ]}
                for group, shifts in self.shifts.items() for shift in shifts
            },
            "overall": [] if self.overall is None else list(map(_statistics, self.titles, self.overall)),
            "verdict": self.verdict(),
        }  # fmt: skip

    def _heading(self) -> str:
        sweeps = next(iter(self._results.values()))[0].sweeps
        if len(self.seeds) == 1:
            return f"mIoU in per cent, seed {self.seeds[0]}, {sweeps} sweeps each"
        return f"mIoU in per cent, mean and standard deviation of {len(self.seeds)} seeds, {sweeps} sweeps each"

    def _rows(self, bold: str) -> Iterator[tuple[str, list[list[str]]]]:
        """Yield each group and its rows: the shift and a text per run, the best one in bold."""

        def row(name: str, miou: np.ndarray) -> list[str]:
            best = miou.mean(1).argmax()
            texts = map(_text, miou)
            return [name, *(bold.format(text) if index == best else text for index, text in enumerate(texts))]

        for group, shifts in self.shifts.items():
            yield group, [row(shift, self.miou[shift]) for shift in shifts]
        if self.overall is not None and len(self._away) > 1:
            yield "all but in distribution", [row("mean", self.overall)]


def _text(values: np.ndarray, sign: str = "") -> str:
    """Mean of (seeds,) values, with the standard deviation if there are several."""
    spread = f"±{values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.1f}{spread}"


def _statistics(title: str, values: np.ndarray) -> dict:
    """Mean and standard deviation of (seeds,) values as JSON values."""
    sd = round(float(values.std(ddof=1)), 4) if len(values) > 1 else None
    return {"run": title, "miou": [round(float(value), 4) for value in values], "mean": round(float(values.mean()), 4),
            "sd": sd}
