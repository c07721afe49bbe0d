"""A benchmark's figures beside those that a paper has published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tttkd_ros.evaluation.leaderboard import Leaderboard
from tttkd_ros.evaluation.leaderboard_tables import Row, Sheet


class PublishedRow(NamedTuple):
    """A row of a paper's table, the title of the run that computes it, and its mIoU in per cent; NaN for none."""

    name: str
    title: str
    miou: float


def published_sheet(board: Leaderboard, rows: Sequence[PublishedRow]) -> Sheet:
    """mIoU of the points that a camera sees, as the paper counts them, beside the published one."""
    cells = [Row(row.name, [f"{found:.1f}", _text(row.miou), _text(found - row.miou, "+"), row.title])
             for row, found in zip(rows, _figures(board, rows), strict=True)]
    return Sheet("mIoU of the points that a camera sees, per cent, beside the published",
                 ["row", "here", "published", "difference", "run"], {"": cells})


def published_content(board: Leaderboard, rows: Sequence[PublishedRow]) -> list[dict]:
    """The same as JSON values."""
    return [{"row": row.name, "run": row.title, "seen": round(float(found), 4),
             "published": None if math.isnan(row.miou) else row.miou}
            for row, found in zip(rows, _figures(board, rows), strict=True)]


def _figures(board: Leaderboard, rows: Sequence[PublishedRow]) -> np.ndarray:
    """(rows,) means over the domains."""
    values = np.mean([board.seen[shift][:, 0] for shift in board.away], axis=0)
    return values[[board.titles.index(row.title) for row in rows]]


def _text(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.1f}"
