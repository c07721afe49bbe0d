"""Results as tables for a terminal, and as JSON and CSV files. Equal results give equal bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.evaluation.result import Result, frozen_run
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
    """All tables to print: mIoU of each bag and of all together, classes, the worst of them, timing."""
    read = [bag for bag in bags if bag.results]
    for bag in read:
        yield result_table(bag.results, heading=f"{bag.bag}: {bag.sweeps} sweeps")
    together = all_bags(bags)
    if len(read) > 1 and together.results:
        yield result_table(together.results, heading=f"{len(read)} bags together: {together.sweeps} sweeps")
    if together.results:
        yield class_table(together.results)
        yield from worst_class_table(together.results)
        yield timing_table(together.results)


def result_table(results: Sequence[Result], *, heading: str = "") -> Table:
    """One row per run: `FIGURES`, loss, and accepted steps. Fits 80 columns."""
    table = _table(heading, [*FIGURES, "loss", "steps"])
    for number, result in enumerate(results, 1):
        summary = result.summary()
        figures = [_text(summary[key]) for key in FIGURES.values()]
        steps = f"{result.steps_accepted}/{result.steps_tried}" if result.steps_tried else "-"
        table.add_row(str(number), result.title, *figures, _text(summary["loss"], 3), steps)
    return table


def class_table(results: Sequence[Result]) -> Table:
    """IoU of each class, or without truth its share of predictions, for each run, numbered as in `result_table`.

    The classes are the rows if there are more of them than runs, so that the table fits 80 columns.
    """
    key = "iou" if any(result.sweeps_with_truth for result in results) else "predicted"
    names = results[0].class_names
    heading = "IoU of each class" if key == "iou" else "Share of each class in the predictions: there is no truth"
    shares = [result.summary()[key] or {} for result in results]
    if len(names) > len(results):
        table = _table(heading, [str(number) for number in range(1, len(results) + 1)], titled=False)
        for name in names:
            table.add_row(name, *(_text(share.get(name)) for share in shares))
        return table
    table = _table(heading, [name.replace("-", "-\n") for name in names], titled=False)
    for number, share in enumerate(shares, 1):
        table.add_row(str(number), *(_text(share.get(name)) for name in names))
    return table


def worst_class_table(results: Sequence[Result]) -> Iterator[Table]:
    """One row per run but frozen: the class that loses most against frozen. No table without frozen or truth."""
    table = _table("Worst class against frozen, of those with 1 % of the points", ["class", "IoU"])
    frozen = frozen_run(results)
    for number, result in enumerate(results, 1):
        if (worst := result.worst_class(frozen)) is not None:
            table.add_row(str(number), result.title, worst["class"], f"{worst['change']:+.1f}")
    if table.rows:
        yield table


def timing_table(results: Sequence[Result]) -> Table:
    """One row per run: speed and latency."""
    columns = ["per s", "p50 ms", "p95 ms", "p99 ms", "s a step"]
    table = _table("Predictions per second, steps included; their latency; seconds per step", columns)
    for number, result in enumerate(results, 1):
        timing = result.timing.summary()
        latency = [_text(value) for value in timing["latency_ms"].values()]
        per_second, step = _text(timing["predictions_per_second"], 2), _text(timing["seconds_per_step"], 3)
        table.add_row(str(number), result.title, per_second, *latency, step)
    return table


def notes(bag: BagResults) -> Iterator[str]:
    """Remarks on a bag that a reader of its tables must know."""
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
            parts = [f"{delivery.sweeps_received} of {delivery.sweeps_sent} sweeps have a prediction"]
            if not delivery.in_order:
                parts.append("not in order")
            if not delivery.points_and_frames_intact:
                parts.append("some with another frame or other points, which count as unlabelled")
            yield f"{bag.bag}, {result.title}: {', '.join(parts)}"
    problems = [(problem, result.title) for result in bag.results for problem in result.problems]
    for problem, titles in _grouped(problems).items():
        yield f"{bag.bag}, {'; '.join(titles)}: {problem}"
    for reason, titles in _grouped((reason, title) for title, reason in bag.left_out.items()).items():
        yield f"{bag.bag}, left out: {'; '.join(titles)}: {reason}"


def content(bags: Sequence[BagResults]) -> dict:
    """Content of results.json. "results" is over all bags together."""

    def runs(bag: BagResults) -> dict:
        frozen = frozen_run(bag.results)
        results = [result.summary() | {"worst_class": result.worst_class(frozen)} for result in bag.results]
        return {"results": results, "left_out": bag.left_out}

    about = ("bag", "sweeps", "cameras", "truth", "damage")
    return runs(all_bags(bags)) | {"bags": [runs(bag) | {name: getattr(bag, name) for name in about} for bag in bags]}


def comma_separated(bags: Sequence[BagResults]) -> str:
    """Content of results.csv: a line for each bag and run, and for each run over all bags."""
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
    """Write timing.json, results.csv and results.json."""

    def timings(bag: BagResults) -> list[dict]:
        return [{"run": result.title} | result.timing.summary() for result in bag.results]

    each = [{"bag": bag.bag, "results": timings(bag)} for bag in bags]
    write_json(folder / "timing.json", {"bags": each, "results": timings(all_bags(bags))})
    write_whole(folder / "results.csv", comma_separated(bags).encode())
    write_json(folder / "results.json", content(bags))


def write_json(path: Path, content: Mapping) -> None:
    """Write a JSON file with sorted keys, whole or not at all."""
    write_whole(path, (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def _grouped(pairs) -> dict[str, list[str]]:
    """Key -> all values of its pairs, in order."""
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _table(heading: str, columns: Sequence[str], *, titled: bool = True) -> Table:
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    if titled:
        table.add_column("per cent")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _text(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
