"""What the demo asks of a recording beyond its score: how long the answers took."""

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
    """One live run against the truth. latency_ms: (received,), in the order of arrival."""

    result: Result
    latency_ms: np.ndarray


def score_live(name: str, drive: Drive, recording: Path, sent: Sequence[int], classes: ClassSet) -> LiveScore:
    """sent: wall-clock nanoseconds at which each of the drive's sweeps was handed to DDS."""
    result = score_recording(name, drive, recording, classes, LIDAR_FRAME)
    return LiveScore(result, latencies(recording, result.stamps.tolist(), sent))


def latencies(recording: Path, drive_stamps: Sequence[int], sent: Sequence[int]) -> np.ndarray:
    """Milliseconds from handing each sweep to DDS until its labelled cloud had arrived, for the answered sweeps."""
    if len(drive_stamps) != len(sent):
        raise ValueError(f"{len(sent)} sweeps were sent, but the drive has {len(drive_stamps)}")
    sent_at = dict(zip(drive_stamps, sent, strict=True))
    milliseconds = []
    for answer in read_labelled(recording):
        if answer.stamp not in sent_at:
            raise ValueError(f"recording {recording}: an answer is stamped {answer.stamp}, as no sweep of the drive is")
        milliseconds.append((answer.arrived - sent_at[answer.stamp]) * 1e-6)
    return np.array(milliseconds)


def percentiles(milliseconds: np.ndarray) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(milliseconds, share)), 2) for share in (50, 95, 99)}
