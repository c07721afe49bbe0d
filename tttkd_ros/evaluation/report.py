"""Results for people and programs: a table, and a JSON file that is the same bytes for the same results."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.evaluation.result import Result


def table(results: Sequence[Result], *, title: str = "") -> Table:
    """Figures by row, methods by column: mIoU in per cent over the whole run, its second half and by camera coverage;
    steps; then the IoU of each class. Fits a terminal of 80 columns with up to three methods."""
    rows = Table("", title=title, title_justify="left", box=SIMPLE_HEAD)
    summaries = [result.summary() for result in results]
    for result in results:
        rows.add_column(describe(result), justify="right")
    headings = {"mIoU": "miou", "2nd half": "miou_second_half", "seen": "miou_visible", "unseen": "miou_not_visible"}
    for heading, key in headings.items():
        rows.add_row(heading, *(_percent(summary[key]) for summary in summaries))
    rows.add_row("steps", *(f"{result.steps_accepted}/{result.steps_tried}" for result in results), end_section=True)
    for name in results[0].class_names:
        rows.add_row(name, *(_percent(summary["iou"][name]) for summary in summaries), style="dim")
    return rows


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
