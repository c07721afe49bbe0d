"""Scores of the demo: labels against the truth, latency of the predictions, `summary.json` and the final tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.bags.labelled import read_labelled
from tttkd_ros.classes import ClassSet
from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.evaluation.live_recordings import score_recording
from tttkd_ros.evaluation.result import Result

NODE = "/segmenter"
POINTS = "/lidar/points"
LABELLED = f"{NODE}/points_labeled"
ADAPTATION = f"{NODE}/adaptation"
LIDAR_FRAME = "lidar"
FROZEN, ADAPTED, EVERY_SWEEP = "frozen", "adapted", "stride_1"  # modes of the live runs

Part = Callable[[Result], float]
PARTS: dict[str, Part] = {  # suffix of a key -> mIoU
    "": Result.miou,
    "_second_half": lambda result: result.miou(result.second_half),
}


class LiveScore(NamedTuple):
    """Score of one live run. latency_ms: (received,), in order of arrival."""

    result: Result
    latency_ms: np.ndarray


@dataclass
class DriveFigures:
    """One drive's live runs by mode, and its controls by name."""

    seed: int
    live: dict[str, LiveScore] = field(default_factory=dict)
    controls: dict[str, Result] = field(default_factory=dict)

    def result(self, name: str) -> Result:
        return self.live[name].result if name in self.live else self.controls[name]

    def content(self) -> dict:
        """All figures as JSON values."""
        live = {mode: result.summary() | {"latency_ms": percentiles(ms)} for mode, (result, ms) in self.live.items()}
        controls = {name: result.summary() for name, result in self.controls.items()}
        return {"seed": self.seed, "live": live, "controls": controls}


def score_live(name: str, drive: Drive, recording: Path, sent: Sequence[int], classes: ClassSet) -> LiveScore:
    """Score one live run. sent: wall-clock nanoseconds at which each sweep of the drive was handed to DDS."""
    result = score_recording(name, drive, recording, classes, LIDAR_FRAME)
    return LiveScore(result, latencies(recording, result.stamps.tolist(), sent))


def latencies(recording: Path, drive_stamps: Sequence[int], sent: Sequence[int]) -> np.ndarray:
    """Milliseconds from handing each sweep to DDS until its labelled cloud arrived. Raises ValueError."""
    if len(drive_stamps) != len(sent):
        raise ValueError(f"{len(sent)} sweeps were sent, but the drive has {len(drive_stamps)}")
    sent_at = dict(zip(drive_stamps, sent, strict=True))
    milliseconds = []
    for labelled in read_labelled(recording):
        if labelled.stamp not in sent_at:
            raise ValueError(f"recording {recording}: no sweep of the drive has the stamp {labelled.stamp}")
        milliseconds.append((labelled.arrived - sent_at[labelled.stamp]) * 1e-6)
    return np.array(milliseconds)


def percentiles(milliseconds: np.ndarray) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(milliseconds, share)), 2) for share in (50, 95, 99)}


def summarise(drives: Sequence[DriveFigures], *, stride: int, learning_rate: float) -> dict:
    """Content of summary.json: mIoU in per cent, mean over the drives; counts and latency at the default stride."""
    adapted = [drive.live[ADAPTED] for drive in drives]
    summary = {
        "seeds": [drive.seed for drive in drives],
        "stride": stride,
        "learning_rate": learning_rate,
        "sweeps_sent": sum(score.result.delivery.sweeps_sent for score in adapted),
        "sweeps_received": sum(score.result.delivery.sweeps_received for score in adapted),
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
    seeds = ", ".join(str(drive.seed) for drive in drives)
    table = _table(f"mIoU in per cent, mean of drives {seeds}", "whole", "gain", "2nd half", "gain", "each drive")
    modes = list(drives[0].live)
    for name in [*modes, *drives[0].controls]:
        cells = [titles[name]]
        for part in PARTS.values():
            cells.append(f"{_mean(drives, name, part):.1f}")
            cells.append("" if name == FROZEN else f"{_gain(drives, name, part):+.1f}")
        cells.append(" ".join(f"{drive.result(name).miou():.1f}" for drive in drives))
        table.add_row(*cells, style=None if name in modes else "dim")
        if name == modes[-1]:
            table.add_row("controls, in process", style="dim")
    return table


def delivery_table(drives: Sequence[DriveFigures], titles: Mapping[str, str]) -> Table:
    """Delivery, steps and latency of the live runs, all drives together. titles: run -> its title."""
    table = _table("Over DDS, in real time", "sweeps labelled", "steps", "latency p50", "p95", "p99 (ms)")
    for mode in drives[0].live:
        scores = [drive.live[mode] for drive in drives]
        received, sent = (sum(getattr(score.result.delivery, f"sweeps_{key}") for score in scores)
                          for key in ("received", "sent"))
        latency = percentiles(np.concatenate([score.latency_ms for score in scores]))
        steps = sum(score.result.steps_accepted for score in scores)
        milliseconds = (f"{value:.0f}" for value in latency.values())
        table.add_row(titles[mode], f"{received} of {sent}", str(steps), *milliseconds)
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table("", title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _mean(drives: Sequence[DriveFigures], name: str, part: Part) -> float:
    return round(float(np.mean([part(drive.result(name)) for drive in drives])), 4)


def _gain(drives: Sequence[DriveFigures], name: str, part: Part) -> float:
    return round(float(np.mean([part(drive.result(name)) - part(drive.result(FROZEN)) for drive in drives])), 4)
