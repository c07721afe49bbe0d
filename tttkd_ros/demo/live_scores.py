"""Scoring the demo's recordings: labels against the truth, and latency of the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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


@dataclass(frozen=True, eq=False)
class LiveScore:
    """Score of one live run. latency_ms: (received,), in order of arrival."""

    result: Result
    latency_ms: np.ndarray


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
