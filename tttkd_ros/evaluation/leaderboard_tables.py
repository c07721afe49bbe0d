"""A benchmark's figures as tables for a terminal, as Markdown, and as JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.evaluation.leaderboard import IN_DISTRIBUTION, MAIN_SHIFT, Leaderboard, WorstClass
from tttkd_ros.methods import ONLINE_KD

ELSEWHERE = "all but in distribution"


@dataclass(frozen=True)
class Row:
    """One line of a sheet. best: number of the cell in bold."""

    name: str
    cells: Sequence[str]
    best: int | None = None

    def marked(self, bold: str) -> list[str]:
        return [self.name, *(bold.format(cell) if number == self.best else cell
                             for number, cell in enumerate(self.cells))]


@dataclass(frozen=True)
class Sheet:
    """A table. groups: heading -> rows; an empty heading is not shown."""

    heading: str
    columns: Sequence[str]
    groups: Mapping[str, Sequence[Row]]

    def rich(self) -> Table:
        table = Table(title=self.heading, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        first, *others = self.columns
        table.add_column(first)
        for column in others:
            table.add_column(column.replace(", ", "\n"), justify="right", overflow="fold")
        for group, rows in self.groups.items():
            table.add_section()
            if group:
                table.add_row(f"[bold]{group}[/]")
            for row in rows:
                name, *cells = row.marked("[bold]{}[/]")
                table.add_row(f"  {name}" if group else name, *cells)
        return table

    def markdown(self) -> str:
        lines = [f"{self.heading}:", "", f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|"]
        for group, rows in self.groups.items():
            if group:
                lines.append(f"| *{group}* |" + " |" * (len(self.columns) - 1))
            lines += [f"| {' | '.join(row.marked('**{}**'))} |" for row in rows]
        return "\n".join(lines) + "\n"


def miou_sheet(board: Leaderboard, *, seen: bool = False) -> Sheet:
    """mIoU of every run by shift, and its mean. seen: of the points that a camera sees."""
    what = "mIoU of the points that a camera sees, per cent" if seen else "mIoU in per cent"
    values = board.seen if seen else board.miou
    groups = {group: [_row(board, shift, values[shift]) for shift in shifts] for group, shifts in board.shifts.items()}
    if len(board.away) > 1:
        groups[ELSEWHERE] = [_row(board, "mean", board.overall(values))]
    return Sheet(_heading(board, what), ["shift", *board.titles], groups)


def gap_sheet(board: Leaderboard) -> Sheet:
    """Share of the gap from frozen to the oracle that each run closes, by shift and for the mean of the shifts."""
    groups = {group: [_row(board, shift, board.gap_closed(board.miou[shift])) for shift in shifts]
              for group, shifts in board.shifts.items()}
    if len(board.away) > 1:
        groups[ELSEWHERE] = [_row(board, "of the mean", board.gap_closed(board.overall(board.miou)))]
    return Sheet(_heading(board, "Gap closed from frozen to oracle, per cent"), ["shift", *board.titles], groups)


def class_sheet(board: Leaderboard) -> Sheet:
    """IoU of each class under `MAIN_SHIFT`, and its mean over the shifts of each group."""
    repeated = [MAIN_SHIFT] in board.shifts.values()
    chosen = {f"{MAIN_SHIFT} alone": [MAIN_SHIFT]} if MAIN_SHIFT in board.miou and not repeated else {}
    groups = {}
    for group, shifts in (chosen | board.shifts).items():
        values = np.moveaxis(board.class_iou(shifts), 2, 0)
        groups[group] = [_row(board, name, each) for name, each in zip(board.class_names, values, strict=True)]
    return Sheet(_heading(board, "IoU of each class in per cent"), ["class", *board.titles], groups)


def run_sheet(board: Leaderboard) -> Sheet:
    """For each run: the gap closed, its worst classes, and by how much and how often online TTT-KD is ahead."""
    columns = {}
    if board.oracle is not None:
        gaps = {MAIN_SHIFT: board.miou.get(MAIN_SHIFT), "mean": board.overall(board.miou)}
        columns |= {f"gap closed, {name}": [_text(values) for values in board.gap_closed(miou)]
                    for name, miou in gaps.items() if miou is not None}
    if board.ours is not None and board.away:
        others = [None if number == board.ours else number for number in range(len(board.titles))]
        columns[f"{ONLINE_KD}, leads by"] = [
            "" if other is None else _text(board.lead(other, board.away).mean(0), "+") for other in others
        ]
        columns["ahead on"] = [
            "" if other is None else f"{len(board.ahead(other))} of {len(board.away)}" for other in others
        ]
    for name, shifts in ((IN_DISTRIBUTION, board.shifts.get(IN_DISTRIBUTION, ())), ("elsewhere", board.away)):
        if shifts:
            columns[f"worst class, {name}"] = [
                _worst(board.worst_class(number, shifts), named=len(shifts) > 1)
                if number != board.frozen else "" for number in range(len(board.titles))
            ]
    rows = [Row(title, cells) for title, *cells in zip(board.titles, *columns.values(), strict=True)]
    return Sheet("Each run; its worst class is against frozen, of those with 1 % of the points", ["run", *columns],
                 {"": rows})


def verdict(board: Leaderboard) -> list[str]:
    """Compare online TTT-KD with every other run, in mIoU points, a sentence each."""
    if board.ours is None:
        return []
    home = board.shifts.get(IN_DISTRIBUTION, ())
    sentences = []
    for other, title in enumerate(board.titles):
        if other == board.ours:
            continue
        parts = []
        if board.away:
            ahead = board.ahead(other)
            below = [shift for shift in board.away if shift not in ahead]
            exceptions = f" (not on {', '.join(below)})" if below else ""
            gain = _text(board.lead(other, board.away).mean(0), "+")
            parts.append(f"{gain} on the mean of {len(board.away)} shifts, above on {len(ahead)} of them{exceptions}")
        if home:
            parts.append(f"{_text(board.lead(other, home).mean(0), '+')} in distribution")
        sentences.append(f"{board.titles[board.ours]} against {title}: {'; '.join(parts)}")
    return sentences


def printed(board: Leaderboard) -> Iterator[Table]:
    """The tables for a terminal."""
    yield miou_sheet(board).rich()
    yield run_sheet(board).rich()


def markdown(board: Leaderboard, command: str, code: str, first: Sequence[Sheet] = ()) -> str:
    """All tables as Markdown, after the command and the version of the code that computed them. first: more tables."""
    gaps = [gap_sheet(board)] if board.oracle is not None else []
    sheets = [*first, miou_sheet(board), miou_sheet(board, seen=True), *gaps, class_sheet(board), run_sheet(board)]
    parts = [f"`{command}`\n\ntttkd_ros {code}\n", *(sheet.markdown() for sheet in sheets),
             "".join(f"- {sentence}\n" for sentence in verdict(board))]
    return "\n".join(parts)


def content(board: Leaderboard, command: str, code: str) -> dict:
    """All figures as JSON values."""

    def run(number: int, miou: Mapping[str, np.ndarray], shifts: Sequence[str]) -> dict:
        """miou: "miou" or "seen" -> (runs, seeds)."""
        worst = board.worst_class(number, shifts) if number != board.frozen else None
        gap = None if board.oracle is None else _statistics(board.gap_closed(miou["miou"])[number])
        return {
            "run": board.titles[number], **_statistics(miou["miou"][number], "miou"),
            "seen": _statistics(miou["seen"][number]), "gap_closed": gap,
            "iou": dict(zip(board.class_names, map(_statistics, board.class_iou(shifts)[number].T), strict=True)),
            "worst_class": None if worst is None else worst._asdict() | {"change": _rounded(worst.change)},
        }

    def runs(miou: Mapping[str, np.ndarray], shifts: Sequence[str]) -> list[dict]:
        return [run(number, miou, shifts) for number in range(len(board.titles))]

    def of(shift: str) -> dict[str, np.ndarray]:
        return {"miou": board.miou[shift], "seen": board.seen[shift]}

    def mean(shifts: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: np.mean([of(shift)[name] for shift in shifts], axis=0) for name in ("miou", "seen")}

    def with_summaries(shift: str) -> list[dict]:
        return [
            found | {"summaries": [board.runs(shift, seed)[number].summary() for seed in board.seeds]}
            for number, found in enumerate(runs(of(shift), [shift]))
        ]

    return {
        "command": command,
        "code": code,
        "seeds": board.seeds,
        "shifts": {shift: {"group": group, "runs": with_summaries(shift)}
                   for group, shifts in board.shifts.items() for shift in shifts},
        "groups": {group: runs(mean(shifts), shifts) for group, shifts in board.shifts.items()},
        "overall": runs(mean(board.away), board.away) if board.away else [],
        "ahead": {title: board.ahead(number) for number, title in enumerate(board.titles)
                  if board.ours not in (None, number)},
        "verdict": verdict(board),
    }  # fmt: skip


def _heading(board: Leaderboard, what: str) -> str:
    if board.seeds == [None]:
        return f"{what}, {board.sweeps} sweeps"
    if len(board.seeds) == 1:
        return f"{what}, seed {board.seeds[0]}, {board.sweeps} sweeps each"
    return f"{what}, mean and standard deviation of {len(board.seeds)} seeds, {board.sweeps} sweeps each"


def _row(board: Leaderboard, name: str, values: np.ndarray) -> Row:
    """Row of (runs, seeds) values with the best run in bold. The oracle is no competitor."""
    means = np.ma.masked_invalid(values).mean(1).filled(-np.inf)
    if board.oracle is not None:
        means[board.oracle] = -np.inf
    return Row(name, [_text(each) for each in values], int(means.argmax()) if np.isfinite(means).any() else None)


def _text(values: np.ndarray, sign: str = "") -> str:
    """Mean of the finite ones of (seeds,) values, with the standard deviation if there are several; "-" if none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    spread = f"±{values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.1f}{spread}"


def _worst(worst: WorstClass | None, *, named: bool) -> str:
    if worst is None:
        return "-"
    return f"{worst.name} {worst.change:+.1f}" + (f" ({worst.shift})" if named else "")


def _statistics(values: np.ndarray, name: str = "values") -> dict:
    """(seeds,) values, and mean and standard deviation of the finite ones, as JSON values."""
    finite = values[np.isfinite(values)]
    mean, sd = finite.mean() if len(finite) else np.nan, finite.std(ddof=1) if len(finite) > 1 else np.nan
    return {name: [_rounded(value) for value in values], "mean": _rounded(mean), "sd": _rounded(sd)}


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
