"""The demo's figures: `summary.json` and the closing table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table

from tttkd_ros.demo.recordings import LiveScore, percentiles
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
        "sweeps_sent": sum(score.delivery.sent for score in adapted),
        "sweeps_received": sum(score.delivery.received for score in adapted),
        "every_run_answered_in_full": all(score.delivery.complete for d in drives for score in d.live.values()),
        "steps_accepted": sum(score.steps_accepted for score in adapted),
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


def table(drives: Sequence[DriveFigures], titles: dict[str, str]) -> Table:
    """Runs and controls by row. titles: run or control -> what to call it."""
    grid = Table(title="mIoU in per cent, over DDS in real time; controls in process", title_justify="left")
    grid.add_column("")
    for drive in drives:
        grid.add_column(f"drive {drive.seed}", justify="right")
    for heading in ("mean", "gain", "2nd half", "gain", "answered", "steps", "latency ms p50 / p95 / p99"):
        grid.add_column(heading, justify="right")
    modes = list(drives[0].live)
    for name in modes + list(drives[0].controls):
        live = name in modes
        cells = [titles[name], *(f"{_whole(_result(drive, name)):.1f}" for drive in drives)]
        cells.append(f"{_mean(drives, name, _whole):.1f}")
        cells.append("" if name == FROZEN else f"{_gain(drives, name, _whole):+.1f}")
        cells.append(f"{_mean(drives, name, _second_half):.1f}")
        cells.append("" if name == FROZEN else f"{_gain(drives, name, _second_half):+.1f}")
        if live:
            scores = [drive.live[name] for drive in drives]
            received, sent = (sum(getattr(s.delivery, key) for s in scores) for key in ("received", "sent"))
            latency = percentiles(np.concatenate([s.latency_ms for s in scores]))
            cells += [f"{received}/{sent}", str(sum(s.steps_accepted for s in scores)),
                      " / ".join(f"{value:.0f}" for value in latency.values())]
        else:
            cells += ["", str(sum(drive.controls[name].steps_accepted for drive in drives)), ""]
        grid.add_row(*cells, style=None if live else "dim", end_section=name == modes[-1])
    return grid


def _details(drive: DriveFigures) -> dict:
    live = {
        mode: score.result.summary() | {
            "sweeps_sent": score.delivery.sent,
            "sweeps_received": score.delivery.received,
            "in_order": score.delivery.in_order,
            "points_and_frames_intact": score.delivery.intact,
            "steps_accepted": score.steps_accepted,
            "rejections": score.rejections,
            "latency_ms": percentiles(score.latency_ms),
        }
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
