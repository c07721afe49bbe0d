"""Figures of the demo: `summary.json` and the final tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.demo.live_scores import LiveScore, percentiles
from tttkd_ros.evaluation.result import Result

FROZEN, ADAPTED, EVERY_SWEEP = "frozen", "adapted", "stride_1"


def _whole(result: Result) -> float:
    return result.miou()


def _second_half(result: Result) -> float:
    return result.miou(result.second_half)


PARTS: dict[str, Callable[[Result], float]] = {"": _whole, "_second_half": _second_half}  # suffix of a key -> mIoU


@dataclass
class DriveFigures:
    """One drive's live runs by mode (`FROZEN`, `ADAPTED`, `EVERY_SWEEP`), and its controls by name."""

    seed: int
    live: dict[str, LiveScore] = field(default_factory=dict)
    controls: dict[str, Result] = field(default_factory=dict)

    def result(self, name: str) -> Result:
        return self.live[name].result if name in self.live else self.controls[name]

    def content(self) -> dict:
        """All figures as JSON values."""
        live = {
            mode: score.result.summary() | {"latency_ms": percentiles(score.latency_ms)}
            for mode, score in self.live.items()
        }
        controls = {name: result.summary() for name, result in self.controls.items()}
        return {"seed": self.seed, "live": live, "controls": controls}


def summarise(drives: Sequence[DriveFigures], *, stride: int, learning_rate: float) -> dict:
    """Content of summary.json: mIoU in per cent, mean over the drives; counts and latency at the default stride."""
    adapted = [drive.live[ADAPTED] for drive in drives]
    summary = {
        "seeds": [drive.seed for drive in drives],
        "stride": stride,
        "learning_rate": learning_rate,
        "sweeps_sent": sum(score.result.delivery.sent for score in adapted),
        "sweeps_received": sum(score.result.delivery.received for score in adapted),
        "every_run_answered_in_full": all(s.result.delivery.complete for d in drives for s in d.live.values()),
        "steps_accepted": sum(score.result.steps_accepted for score in adapted),
        "latency_ms": percentiles(np.concatenate([score.latency_ms for score in adapted])),
        "control_gains": {
            name: {f"gain{suffix}": _gain(drives, name, part) for suffix, part in PARTS.items()}
            for name in drives[0].controls
        },
        "drives": [drive.content() for drive in drives],
    }
    for suffix, part in PARTS.items():
        summary |= {f"miou_{mode}{suffix}": _mean(drives, mode, part) for mode in (FROZEN, ADAPTED, EVERY_SWEEP)}
        summary |= {f"gain{suffix}": _gain(drives, ADAPTED, part),
                    f"gain_{EVERY_SWEEP}{suffix}": _gain(drives, EVERY_SWEEP, part)}
    return summary


def label_table(drives: Sequence[DriveFigures], titles: Mapping[str, str]) -> Table:
    """mIoU of live runs and controls. titles: run or control -> its title."""
    table = _table(f"mIoU in per cent, mean of drives {', '.join(str(drive.seed) for drive in drives)}",
                   ("whole", "gain", "2nd half", "gain", "each drive"))
    modes = list(drives[0].live)
    for name in [*modes, *drives[0].controls]:
        cells = [titles[name]]
        for part in PARTS.values():
            cells.append(f"{_mean(drives, name, part):.1f}")
            cells.append("" if name == FROZEN else f"{_gain(drives, name, part):+.1f}")
        cells.append(" ".join(f"{_whole(drive.result(name)):.1f}" for drive in drives))
        table.add_row(*cells, style=None if name in modes else "dim")
        if name == modes[-1]:
            table.add_row("controls, in process", style="dim")
    return table


def delivery_table(drives: Sequence[DriveFigures], titles: Mapping[str, str]) -> Table:
    """Delivery, steps and latency of the live runs, all drives together. titles: run -> its title."""
    table = _table("Over DDS, in real time", ("sweeps labelled", "steps", "latency p50", "p95", "p99 (ms)"))
    for mode in drives[0].live:
        scores = [drive.live[mode] for drive in drives]
        received, sent = (sum(getattr(score.result.delivery, key) for score in scores) for key in ("received", "sent"))
        latency = percentiles(np.concatenate([score.latency_ms for score in scores]))
        steps = sum(score.result.steps_accepted for score in scores)
        milliseconds = (f"{value:.0f}" for value in latency.values())
        table.add_row(titles[mode], f"{received} of {sent}", str(steps), *milliseconds)
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table("", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _mean(drives: Sequence[DriveFigures], name: str, part: Callable[[Result], float]) -> float:
    return round(float(np.mean([part(drive.result(name)) for drive in drives])), 4)


def _gain(drives: Sequence[DriveFigures], name: str, part: Callable[[Result], float]) -> float:
    return round(float(np.mean([part(drive.result(name)) - part(drive.result(FROZEN)) for drive in drives])), 4)
