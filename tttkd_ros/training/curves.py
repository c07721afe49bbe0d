"""Curves of a training: losses and validation mIoU, as a PNG and for TensorBoard."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from tttkd_ros.files import write_whole

POINTS = 500  # of a loss curve
LEGEND_ROWS = 12


class Curves:
    """Records losses, averaged over stretches of steps, and validations. Memory does not grow with the steps.

    steps: of the training. folder: of TensorBoard's files; None writes none.
    """

    def __init__(self, steps: int, folder: Path | None = None):
        self._every = max(steps // POINTS, 1)
        self._sums: dict[str, float] = {}
        self._count = 0
        self._lines: dict[str, list[list[float]]] = {}  # name -> [step, value] each
        self._folder, self._writer = folder, None

    def add_losses(self, step: int, losses: Mapping[str, float]) -> None:
        self._sums = {name: self._sums.get(name, 0.0) + value for name, value in losses.items()}
        self._count += 1
        if step % self._every == 0:
            for name, total in self._sums.items():
                self.add(f"loss/{name}", step, total / self._count)
            self._sums, self._count = {}, 0

    def add(self, name: str, step: int, value: float) -> None:
        """Add a value to a curve, whose name is group/name."""
        self._lines.setdefault(name, []).append([step, value])
        if self._folder is not None:
            if self._writer is None:
                self._writer = _summary_writer(self._folder, step)
            if self._writer is not None:
                self._writer.add_scalar(name, value, step)

    def draw(self, path: Path) -> None:
        """Write a PNG with a chart for each group. Raises Unwritable."""
        if self._lines:
            content = io.BytesIO()
            self.figure().savefig(content, dpi=120, format="png")
            write_whole(path, content.getbuffer())

    def figure(self) -> Figure:
        """Draw a chart for each group. Curves without a number are left out: classes that do not occur."""
        shown = {name: line for name, line in sorted(self._lines.items()) if not np.isnan(line).any(1).all()}
        groups = sorted({name.partition("/")[0] for name in shown})
        figure = Figure(figsize=(8, 2.8 * len(groups)), layout="constrained")
        for axes, group in zip(figure.subplots(len(groups), squeeze=False)[:, 0], groups, strict=True):
            axes.set_prop_cycle(color=colormaps["tab20"].colors)
            for name, line in shown.items():
                if name.startswith(f"{group}/"):
                    axes.plot(*zip(*line, strict=True), label=name.partition("/")[2], marker="." * (len(line) < 50))
            axes.set(xlabel="step", ylabel=group)
            columns = -(-len(axes.lines) // LEGEND_ROWS)
            axes.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5), ncols=columns)
            axes.grid(alpha=0.2)
        return figure

    def close(self) -> None:
        """Finish TensorBoard's files."""
        if self._writer is not None:
            self._writer.close()

    def state_dict(self) -> dict:
        return {"lines": self._lines, "sums": self._sums, "count": self._count}

    def load_state_dict(self, state: dict) -> None:
        self._lines, self._sums, self._count = state["lines"], state["sums"], state["count"]


def _summary_writer(folder: Path, step: int):
    """Return TensorBoard's writer, or None if it is not installed. A resumed training hides what it repeats."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step)
