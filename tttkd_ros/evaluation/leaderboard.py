"""What a benchmark found: methods by shift, mean and spread over the seeds, and how one compares with the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.evaluation.replay import ONLINE_KD
from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.trials import Trial

IN_DISTRIBUTION = "in distribution"


@dataclass(frozen=True)
class Comparison:
    """Ours against another method. away: (seeds,), the difference in mIoU points, mean over the shifts. above: shifts
    where ours is better on the mean of the seeds; below: where it is not. home: (seeds,), the same in distribution.
    Each is empty if none of its shifts was run.
    """

    other: str
    away: np.ndarray
    above: tuple[str, ...]
    below: tuple[str, ...]
    home: np.ndarray


class Leaderboard:
    """results: of every trial the same runs, on the same seeds for every shift. groups: name -> its shifts.

    titles: of the runs. shifts: those that were run, by group.
    """

    def __init__(self, results: Mapping[Trial, Sequence[Result]], groups: Mapping[str, Sequence[str]]):
        self._results = results
        self.seeds = sorted({trial.seed for trial in results})
        ran = {trial.shift for trial in results}
        self.shifts = {
            group: here for group, shifts in groups.items() if (here := [shift for shift in shifts if shift in ran])
        }
        self.titles = [result.title for result in next(iter(results.values()))]
        self._away = [shift for group, shifts in self.shifts.items() if group != IN_DISTRIBUTION for shift in shifts]

    @cached_property
    def miou(self) -> dict[str, np.ndarray]:
        """Shift -> (runs, seeds), per cent."""
        shifts = [shift for group in self.shifts.values() for shift in group]
        return {
            shift: np.array([[result.miou() for result in self._results[Trial(shift, seed)]] for seed in self.seeds]).T
            for shift in shifts
        }

    @cached_property
    def overall(self) -> np.ndarray | None:
        """(runs, seeds): the mean over all shifts but those in distribution; None if there are none."""
        return np.mean([self.miou[shift] for shift in self._away], axis=0) if self._away else None

    def duels(self) -> list[Comparison]:
        """The first online TTT-KD that was run against every run of another method."""
        ours = next((index for index, title in enumerate(self.titles) if title.startswith(ONLINE_KD)), None)
        if ours is None:
            return []
        others = [index for index, title in enumerate(self.titles) if not title.startswith(ONLINE_KD)]
        return [self._duel(ours, other) for other in others]

    def _duel(self, ours: int, other: int) -> Comparison:
        gains = {shift: self.miou[shift][ours] - self.miou[shift][other] for shift in self.miou}
        home = [gains[shift] for shift in self.shifts.get(IN_DISTRIBUTION, ())]
        away = [gains[shift] for shift in self._away]
        above = {shift: gains[shift].mean() > 0 for shift in self._away}
        return Comparison(
            self.titles[other],
            np.mean(away, axis=0) if away else np.empty(0),
            tuple(shift for shift, better in above.items() if better),
            tuple(shift for shift, better in above.items() if not better),
            np.mean(home, axis=0) if home else np.empty(0),
        )

    def table(self) -> Table:
        """For a terminal: a shift to a row."""
        table = Table(
            title=self._heading(), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
        )
        table.add_column("shift", no_wrap=True)
        for title in self.titles:
            table.add_column(title.replace(", ", "\n"), justify="right", overflow="fold")
        for group, rows in self._rows():
            table.add_section()
            table.add_row(f"[bold]{group}[/]")
            for shift, values, best in rows:
                cells = [f"[bold]{text}[/]" if index == best else text for index, text in enumerate(values)]
                table.add_row(f"  {shift}", *cells)
        return table

    def markdown(self) -> str:
        """The same for a README."""
        lines = [f"| {' | '.join(['shift', *self.titles])} |", "|---" * (1 + len(self.titles)) + "|"]
        for group, rows in self._rows():
            lines.append(f"| *{group}* |" + " |" * len(self.titles))
            for shift, values, best in rows:
                cells = [f"**{text}**" if index == best else text for index, text in enumerate(values)]
                lines.append(f"| {' | '.join([shift, *cells])} |")
        return "\n".join([f"{self._heading()}:", "", *lines, "", *self.verdict()]) + "\n"

    def verdict(self) -> Iterator[str]:
        """Sentences on how ours compares."""
        for duel in self.duels():
            shifts = len(duel.above) + len(duel.below)
            parts = []
            if shifts:
                exceptions = f" (not on {', '.join(duel.below)})" if duel.below else ""
                lead = f"{_text(duel.away, '+')} on the mean of {shifts} shifts"
                parts.append(f"{lead}, above on {len(duel.above)} of them{exceptions}")
            if len(duel.home):
                parts.append(f"{_text(duel.home, '+')} in distribution")
            yield f"{ONLINE_KD} against {duel.other}: {'; '.join(parts)}"

    def content(self) -> dict:
        """JSON values."""
        return {
            "seeds": self.seeds,
            "shifts": {
                shift: {"group": group, "runs": [
                    _spread(title, self.miou[shift][index]) | {
                        "summaries": [self._results[Trial(shift, seed)][index].summary() for seed in self.seeds]
                    }
                    for index, title in enumerate(self.titles)
                ]}
                for group, shifts in self.shifts.items() for shift in shifts
            },
            "overall": [] if self.overall is None else [
                _spread(title, values) for title, values in zip(self.titles, self.overall, strict=True)
            ],
            "verdict": list(self.verdict()),
        }  # fmt: skip

    def _heading(self) -> str:
        sweeps = next(iter(self._results.values()))[0].sweeps
        if len(self.seeds) == 1:
            return f"mIoU in per cent, seed {self.seeds[0]}, {sweeps} sweeps each"
        return f"mIoU in per cent, mean and standard deviation of {len(self.seeds)} seeds, {sweeps} sweeps each"

    def _rows(self) -> Iterator[tuple[str, list[tuple[str, list[str], int]]]]:
        """Group -> its rows: shift, a text for each run, and which is best."""
        for group, shifts in self.shifts.items():
            yield group, [_row(shift, self.miou[shift]) for shift in shifts]
        if self.overall is not None and len(self._away) > 1:
            yield "all but in distribution", [_row("mean", self.overall)]


def _row(name: str, miou: np.ndarray) -> tuple[str, list[str], int]:
    return name, [_text(values) for values in miou], int(miou.mean(1).argmax())


def _text(values: np.ndarray, sign: str = "") -> str:
    """values: (seeds,); their mean and, of several, standard deviation."""
    spread = f"±{values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.1f}{spread}"


def _spread(title: str, values: np.ndarray) -> dict:
    """values: (seeds,)."""
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"run": title, "miou": [round(float(value), 4) for value in values], "mean": round(float(values.mean()), 4),
            "sd": None if sd is None else round(sd, 4)}
