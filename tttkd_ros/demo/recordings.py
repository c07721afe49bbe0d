"""What a recording of the node's answers says: labels against the truth, latency, and the adaptation's steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tttkd_ros.bags.storage import open_bag
from tttkd_ros.bags.topics import CLOUD, require
from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.tally import score
from tttkd_ros.messages.point_cloud import decode_cloud
from tttkd_ros.messages.stamps import nanoseconds

NODE = "/segmenter"
POINTS = "/lidar/points"
LABELLED = f"{NODE}/points_labeled"
ADAPTATION = f"{NODE}/adaptation"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
LIDAR_FRAME = "lidar"


@dataclass(frozen=True, eq=False)
class Answer:
    """One labelled cloud as recorded. stamp, arrived: nanoseconds, the latter by the wall clock."""

    stamp: int
    arrived: int
    frame_id: str
    points: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Delivery:
    """How the sweeps came back. in_order: stamps rise. intact: every answer has its sweep's frame and points."""

    sent: int
    received: int
    in_order: bool
    intact: bool

    @property
    def complete(self) -> bool:
        return self.sent == self.received and self.in_order and self.intact


@dataclass(frozen=True, eq=False)
class LiveScore:
    """One live run against the truth.

    latency_ms: (received,), in the order of arrival. rejections: steps not taken, counted by reason.
    """

    result: Result
    delivery: Delivery
    latency_ms: np.ndarray
    steps_accepted: int
    rejections: dict[str, int]


def score_live(name: str, drive: Drive, recording: Path, sent: Sequence[int], class_set: ClassSet) -> LiveScore:
    """sent: wall-clock nanoseconds at which each of the drive's sweeps was handed to DDS."""
    result, delivery = score_recording(name, drive, recording, class_set)
    return LiveScore(result, delivery, latencies(recording, result.stamps.tolist(), sent), *steps(recording))


def answers(recording: Path) -> Iterator[Answer]:
    """The labelled clouds of a recording, in the order of their arrival. Raises ValueError for any that is not that."""
    for arrived, message in _messages(recording, LABELLED, CLOUD):
        cloud = decode_cloud(message)
        if cloud.label is None:
            raise ValueError(f"recording {recording}: a cloud on {LABELLED} has no UINT8 field 'label'")
        yield Answer(nanoseconds(message.header.stamp), arrived, message.header.frame_id, cloud.points, cloud.label)


def score_recording(name: str, drive: Drive, recording: Path, class_set: ClassSet) -> tuple[Result, Delivery]:
    """Score the recorded labels by stamp; a sweep that was not answered, or not whole, counts as all unlabelled."""
    stamps, matrices, intact = [], [], True
    arriving = answers(recording)
    held: dict[int, Answer] = {}  # answers that arrived before the sweep in hand was reached: none, if in order
    order: list[int] = []
    for frame in drive:
        while frame.stamp not in held and (answer := next(arriving, None)) is not None:
            order.append(answer.stamp)
            held[answer.stamp] = answer
        answer = held.pop(frame.stamp, None)
        labels = np.full(len(frame.points), UNLABELLED, np.uint8)
        if answer is not None:
            if answer.frame_id == LIDAR_FRAME and np.array_equal(answer.points, frame.points, equal_nan=True):
                labels = answer.labels
            else:
                intact = False
        stamps.append(frame.stamp)
        matrices.append(score(frame, labels, len(class_set)))
    order += [answer.stamp for answer in arriving]
    delivery = Delivery(len(stamps), len(order), bool((np.diff(order) > 0).all()), intact)
    return Result(name, class_set.names, np.array(stamps, np.int64), np.stack(matrices)), delivery


def latencies(recording: Path, drive_stamps: Sequence[int], sent: Sequence[int]) -> np.ndarray:
    """Milliseconds from handing each sweep to DDS until its labelled cloud had arrived, for the answered sweeps."""
    if len(drive_stamps) != len(sent):
        raise ValueError(f"{len(sent)} sweeps were sent, but the drive has {len(drive_stamps)}")
    sent_at = dict(zip(drive_stamps, sent, strict=True))
    milliseconds = []
    for arrived, message in _messages(recording, LABELLED, CLOUD):
        stamp = nanoseconds(message.header.stamp)
        if stamp not in sent_at:
            raise ValueError(f"recording {recording}: an answer is stamped {stamp}, but no sweep of the drive is")
        milliseconds.append((arrived - sent_at[stamp]) * 1e-6)
    return np.array(milliseconds)


def percentiles(milliseconds: np.ndarray) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(milliseconds, share)), 2) for share in (50, 95, 99)}


def steps(recording: Path) -> tuple[int, dict[str, int]]:
    """How many adaptation steps were accepted, and the reasons of those that were not, counted."""
    accepted, reasons = 0, Counter()
    for _, message in _messages(recording, ADAPTATION, DIAGNOSTICS):
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            if not {"accepted", "reason"} <= values.keys():
                has = ", ".join(values) or "nothing"
                lacking = f"a report on {ADAPTATION} lacks 'accepted' or 'reason'"
                raise ValueError(f"recording {recording}: {lacking}; it has {has}")
            if values["accepted"] == "true":
                accepted += 1
            else:
                reasons[values["reason"]] += 1
    return accepted, dict(reasons)


def _messages(recording: Path, topic: str, kind: str) -> Iterator[tuple[int, Any]]:
    """Time of arrival and message of each that was recorded on a topic; none where nothing was."""
    with open_bag(recording) as bag:
        if topic in bag.types:
            require(bag.types, topic, kind)
        for record in bag.messages([topic]):
            yield record.time, bag.decode(record)
