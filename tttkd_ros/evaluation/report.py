"""Results for people and programs: tables, and JSON and CSV files that are the same bytes for the same results."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.runs import BagResults, all_bags
from tttkd_ros.files import write_whole

# Heading of a column -> key of a summary.
FIGURES = {
    "mIoU": "miou", "2nd\nhalf": "miou_second_half", "seen": "miou_visible", "un-\nseen": "miou_not_visible",
    "cal.\nerr.": "calibration_error", "same": "agreement",
}
SETTINGS = ("stride", "learning_rate", "bn_momentum", "steps", "images", "kd_points", "guard", "control", "shift_z",
            "seed", "rotations")


def tables(bags: Sequence[BagResults]) -> Iterator[Table]:
    """All that there is to show on a terminal."""
    read = [bag for bag in bags if bag.results]
    for bag in read:
        yield table(bag.results, heading=f"{bag.bag}: {bag.sweeps} sweeps")
    together = all_bags(bags)
    if len(read) > 1 and together.results:
        yield table(together.results, heading=f"{len(read)} bags together: {together.sweeps} sweeps")
    if together.results:
        yield class_table(together.results)
        yield timing_table(together.results)


def table(results: Sequence[Result], *, heading: str = "") -> Table:
    """A run to a row: mIoU in per cent over the whole drive, its second half and by camera coverage; calibration error
    and labels that are the frozen student's, in per cent; mean loss; steps accepted of those tried. Fits 80 columns."""
    rows = _table(results, heading, [*FIGURES, "loss", "steps"])
    for number, result in enumerate(results, 1):
        summary = result.summary()
        figures = [_text(summary[key]) for key in FIGURES.values()]
        steps = f"{result.steps_accepted}/{result.steps_tried}" if result.steps_tried else "-"
        rows.add_row(str(number), result.title, *figures, _text(summary["loss"], 3), steps)
    return rows


def class_table(results: Sequence[Result]) -> Table:
    """A run to a row, numbered as in `table`: each class's IoU in per cent; without truth, its share of the answers."""
    key = "iou" if any(result.sweeps_with_truth for result in results) else "predicted"
    names = results[0].class_names
    heading = "IoU of each class" if key == "iou" else "Share of each class in the answers: there is no truth"
    rows = _table(results, heading, [name.replace("-", "-\n") for name in names], titled=False)
    for number, result in enumerate(results, 1):
        shares = result.summary()[key] or {}
        rows.add_row(str(number), *(_text(shares.get(name)) for name in names))
    return rows


def timing_table(results: Sequence[Result]) -> Table:
    """A run to a row: what differs from one evaluation to the next."""
    columns = ["per s", "p50 ms", "p95 ms", "p99 ms", "s a step"]
    rows = _table(results, "Predictions per second, steps included; their latency; seconds of a step", columns)
    for number, result in enumerate(results, 1):
        timing = result.timing.summary()
        latency = [_text(value) for value in timing["latency_ms"].values()]
        per_second, step = _text(timing["predictions_per_second"], 2), _text(timing["seconds_per_step"], 3)
        rows.add_row(str(number), result.title, per_second, *latency, step)
    return rows


def notes(bag: BagResults) -> Iterator[str]:
    """What a reader of the tables must know."""
    if not bag.sweeps:
        yield f"{bag.bag} cannot be evaluated: {bag.damage}"
    elif bag.damage is not None:
        yield f"{bag.bag}: {bag.damage}; only the {bag.sweeps} sweeps that can be read are evaluated"
    if bag.results and not (known := max(result.sweeps_with_truth for result in bag.results)):
        yield f"{bag.bag} has no truth: no IoU and no calibration; what needs none is reported"
    elif bag.results and known < bag.sweeps:
        yield f"{bag.bag} has truth for {known} of {bag.sweeps} sweeps: IoU and calibration are of those"
    for result in bag.results:
        if (delivery := result.delivery) is not None:
            told = [f"{delivery.received} of {delivery.sent} sweeps answered"]
            told += [] if delivery.in_order else ["not in order"]
            told += [] if delivery.intact else ["some with another frame or other points, which count as unlabelled"]
            yield f"{bag.bag}, {result.title}: {', '.join(told)}"
    problems: dict[str, list[str]] = {}
    for result in bag.results:
        for problem in result.problems:
            problems.setdefault(problem, []).append(result.title)
    for problem, titles in problems.items():
        yield f"{bag.bag}, {'; '.join(titles)}: {problem}"
    reasons: dict[str, list[str]] = {}
    for title, reason in bag.left_out.items():
        reasons.setdefault(reason, []).append(title)
    for reason, titles in reasons.items():
        yield f"{bag.bag}, left out: {'; '.join(titles)}: {reason}"


def content(bags: Sequence[BagResults]) -> dict:
    """Of results.json. "results": over all bags together."""
    return {
        "bags": [
            _described(bag) | {
                "bag": bag.bag, "sweeps": bag.sweeps, "cameras": bag.cameras, "truth": bag.truth, "damage": bag.damage
            }
            for bag in bags
        ]
    } | _described(all_bags(bags))


def timings(bags: Sequence[BagResults]) -> dict:
    """Of timing.json."""
    return {"bags": [{"bag": bag.bag, "results": _timed(bag)} for bag in bags], "results": _timed(all_bags(bags))}


def comma_separated(bags: Sequence[BagResults]) -> str:
    """Of results.csv: a line for each bag and run, and for each run over all bags."""
    names = next(result.class_names for bag in bags for result in bag.results)
    figures = ("sweeps", "sweeps_with_truth", *FIGURES.values(), "loss", "steps_tried", "steps_accepted")
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["bag", "run", "method", *SETTINGS, *figures, *(f"iou_{name}" for name in names)])
    for bag in [*bags, all_bags(bags)]:
        for result in bag.results:
            summary = result.summary()
            settings = [result.settings.get(name) for name in SETTINGS]
            values = [summary[name] for name in figures] + [summary["iou"][name] for name in names]
            lines.writerow([bag.bag, result.title, result.name, *settings, *values])
    return text.getvalue()


def write_reports(folder: Path, bags: Sequence[BagResults]) -> None:
    """results.json, results.csv and timing.json."""
    write_json(folder / "timing.json", timings(bags))
    write_whole(folder / "results.csv", comma_separated(bags).encode())
    write_json(folder / "results.json", content(bags))


def write_json(path: Path, content: dict) -> None:
    """Write `content` with sorted keys, whole or not at all."""
    write_whole(path, (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def _described(bag: BagResults) -> dict:
    return {"results": [result.summary() for result in bag.results], "left_out": bag.left_out}


def _timed(bag: BagResults) -> list[dict]:
    return [{"run": result.title} | result.timing.summary() for result in bag.results]


def _table(results: Sequence[Result], heading: str, columns: Sequence[str], *, titled: bool = True) -> Table:
    rows = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    rows.add_column("", justify="right", style="dim", no_wrap=True)
    if titled:
        rows.add_column("per cent")
    for column in columns:
        rows.add_column(column, justify="right", no_wrap=True)
    return rows


def _text(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
