"""Results for people and programs: a table, and a JSON file that is the same bytes for the same results."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from tttkd_ros.evaluation.result import Result


def table(results: Sequence[Result], *, title: str = "") -> Table:
    """Methods by row; mIoU in per cent over the whole run, its second half, and by camera coverage; then each class."""
    columns = Table(title=title, title_justify="left")
    columns.add_column("method")
    for heading in ("mIoU", "2nd half", "seen", "unseen", "steps"):
        columns.add_column(heading, justify="right")
    for name in results[0].class_names:
        columns.add_column(name, justify="right", style="dim")
    for result in results:
        summary = result.summary()
        columns.add_row(
            describe(result),
            *(_percent(summary[key]) for key in ("miou", "miou_second_half", "miou_visible", "miou_not_visible")),
            f"{result.steps_accepted}/{result.steps_tried}",
            *(_percent(value) for value in summary["iou"].values()),
        )
    return columns


def describe(result: Result) -> str:
    """The method with those of its settings that tell one run from another."""
    parts = [result.name]
    labels = {"stride": "stride", "learning_rate": "lr", "steps": "steps", "control": "", "shift_z": "z shift"}
    for key, label in labels.items():
        value = result.settings.get(key)
        if value is not None and not (key == "steps" and value == 1):
            parts.append(f"{label} {value}".strip())
    return ", ".join(parts)


def write_json(path: Path, content: dict) -> None:
    """Write `content` with sorted keys, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
