"""The demo's figures: `summary.json` and the closing table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.demo.demo_bags import LiveScore, percentiles
from tttkd_ros.evaluation.result import Result

FROZEN, ADAPTED, EVERY_SWEEP = "frozen", "adapted", "stride_1"


@dataclass
class DriveFigures:
    """One drive's live runs by mode (`FROZEN`, `ADAPTED`, `EVERY_SWEEP`) and its controls by name."""

    seed: int
    live: dict[str, LiveScore] = field(default_factory=dict)
    controls: dict[str, Result] = field(default_factory=dict)

    @property
    def frozen(self) -> Result:
        return self.live[FROZEN].result


def summarise(drives: Sequence[DriveFigures], *, stride: int, learning_rate: float) -> dict:
    """Means over the drives in per cent, totals of the counts; counts and latency are those of the default stride."""
    adapted = [drive.live[ADAPTED] for drive in drives]
    return {
        "seeds": [drive.seed for drive in drives],
        "stride": stride,
        "learning_rate": learning_rate,
        "sweeps_sent": sum(score.result.delivery.sent for score in adapted),
        "sweeps_received": sum(score.result.delivery.received for score in adapted),
        "every_run_answered_in_full": all(s.result.delivery.complete for d in drives for s in d.live.values()),
        "steps_accepted": sum(score.result.steps_accepted for score in adapted),
        "latency_ms": percentiles(np.concatenate([score.latency_ms for score in adapted])),
        "miou_frozen": _mean(drives, FROZEN, _whole),
        "miou_frozen_second_half": _mean(drives, FROZEN, _second_half),
        "miou_adapted": _mean(drives, ADAPTED, _whole),
        "miou_adapted_second_half": _mean(drives, ADAPTED, _second_half),
        "miou_stride_1": _mean(drives, EVERY_SWEEP, _whole),
        "miou_stride_1_second_half": _mean(drives, EVERY_SWEEP, _second_half),
        "gain": _gain(drives, ADAPTED, _whole),
        "gain_second_half": _gain(drives, ADAPTED, _second_half),
        "gain_stride_1": _gain(drives, EVERY_SWEEP, _whole),
        "gain_stride_1_second_half": _gain(drives, EVERY_SWEEP, _second_half),
        "control_gains": {
            name: {"gain": _gain(drives, name, _whole), "gain_second_half": _gain(drives, name, _second_half)}
            for name in drives[0].controls
        },
        "drives": [_details(drive) for drive in drives],
    }


def label_table(drives: Sequence[DriveFigures], titles: dict[str, str]) -> Table:
    """mIoU of runs and controls. titles: run or control -> what to call it."""
    seeds = ", ".join(str(drive.seed) for drive in drives)
    grid = _grid(f"mIoU in per cent, mean of drives {seeds}")
    for heading in ("whole", "gain", "2nd half", "gain", "each drive"):
        grid.add_column(heading, justify="right")
    modes = list(drives[0].live)
    for name in modes + list(drives[0].controls):
        cells = [titles[name]]
        for part in (_whole, _second_half):
            cells.append(f"{_mean(drives, name, part):.1f}")
            cells.append("" if name == FROZEN else f"{_gain(drives, name, part):+.1f}")
        cells.append(" ".join(f"{_whole(_result(drive, name)):.1f}" for drive in drives))
        grid.add_row(*cells, style=None if name in modes else "dim")
        if name == modes[-1]:
            grid.add_row("controls, in process", style="dim")
    return grid


def delivery_table(drives: Sequence[DriveFigures], titles: dict[str, str]) -> Table:
    """How the live runs came back, all drives together. titles: run -> what to call it."""
    grid = _grid("Over DDS, in real time")
    for heading in ("sweeps answered", "steps", "latency p50", "p95", "p99 (ms)"):
        grid.add_column(heading, justify="right")
    for mode in drives[0].live:
        scores = [drive.live[mode] for drive in drives]
        received, sent = (sum(getattr(score.result.delivery, key) for score in scores) for key in ("received", "sent"))
        latency = percentiles(np.concatenate([score.latency_ms for score in scores]))
        steps = sum(score.result.steps_accepted for score in scores)
        grid.add_row(
            titles[mode], f"{received} of {sent}", str(steps), *(f"{value:.0f}" for value in latency.values())
        )
    return grid


def _grid(title: str) -> Table:
    grid = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    grid.add_column("")
    return grid


def _details(drive: DriveFigures) -> dict:
    live = {
        mode: score.result.summary() | {"latency_ms": percentiles(score.latency_ms)}
        for mode, score in drive.live.items()
    }
    return {"seed": drive.seed, "live": live, "controls": {name: r.summary() for name, r in drive.controls.items()}}


def _result(drive: DriveFigures, name: str) -> Result:
    return drive.live[name].result if name in drive.live else drive.controls[name]


def _whole(result: Result) -> float:
    return result.miou()


def _second_half(result: Result) -> float:
    return result.miou(result.second_half)


def _mean(drives: Sequence[DriveFigures], name: str, part: Callable[[Result], float]) -> float:
    return round(float(np.mean([part(_result(drive, name)) for drive in drives])), 4)


def _gain(drives: Sequence[DriveFigures], name: str, part: Callable[[Result], float]) -> float:
    return round(float(np.mean([part(_result(drive, name)) - part(drive.frozen) for drive in drives])), 4)
