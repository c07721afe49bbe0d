"""Scoring recordings of a live node: predicted labels against the truth, and the adaptation steps it took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.bags import topics
from tttkd_ros.bags.labelled import find_class_set, labelled_stamps, read_labelled
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.diagnosis import explain_steps
from tttkd_ros.evaluation.drives import DescribedDrive, Drive
from tttkd_ros.evaluation.inputs import bag_names
from tttkd_ros.evaluation.metrics import Tally
from tttkd_ros.evaluation.result import Delivery, Result, Timing, step_counts
from tttkd_ros.evaluation.runs import BagResults
from tttkd_ros.evaluation.store import LabelFile
from tttkd_ros.frame import Frame
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.segmenter.segmenter import Prediction

LIVE = "live"
REPORTS = "diagnostic_msgs/msg/DiagnosticArray"
REQUIRED = ("accepted", "reason", "loss", "seconds", "stride", "learning_rate")  # values of a report


def live_names(recordings: Sequence[Path]) -> dict[str, Path]:
    """Name the recordings' runs. Raises ValueError if one is not a recording of a node's predictions."""
    for path in recordings:
        with open_bag(path) as bag:
            topics.labelled_topic(bag.types)
    if len(recordings) == 1:
        return {LIVE: recordings[0]}
    return {f"{LIVE} {name}": path for name, path in bag_names(recordings).items()} if recordings else {}


def with_recordings(
    bag: BagResults, drive: DescribedDrive, recordings: Mapping[str, Path], classes: ClassSet, frozen: LabelFile
) -> BagResults:
    """Add the results of the recordings to a bag's. A recording that does not fit is left out with the reason.

    frozen: the frozen student's labels, used if the file exists.
    """
    results, left_out = list(bag.results), dict(bag.left_out)
    for name, path in recordings.items():
        try:
            with frozen.read() if frozen.path.is_file() else nullcontext() as reference:
                results.append(score_recording(name, drive, path, classes, drive.lidar_frame, reference))
        except ValueError as error:
            left_out[name] = str(error)
    return replace(bag, results=tuple(results), left_out=left_out)


def score_recording(
    name: str, drive: Drive, recording: Path, classes: ClassSet, lidar_frame: str,
    reference: Callable[[Frame], np.ndarray] | None = None,
) -> Result:
    """Score recorded labels by stamp. A sweep with no prediction, or with other points or frame, counts as unlabelled.

    Only steps of the drive's sweeps count, because a recording may continue after the drive's limit. recording: bag
    with the node's labelled clouds and reports. lidar_frame: frame of sweeps that name none. reference: as for
    `replay`. Raises ValueError if no sweep of the drive has a prediction, or the recording says that its labels have
    other classes.
    """
    with open_bag(recording) as bag:
        recorded = find_class_set(bag, topics.labelled_topic(bag.types))
    if recorded is not None and recorded.names != classes.names:
        raise ValueError(f"recording {recording} has labels of {recorded}, but the student has {classes}: evaluate "
                         "with the node's model")
    stamps = labelled_stamps(recording)
    expected, arriving = set(stamps), read_labelled(recording)
    early = {}  # predictions that were recorded before those of earlier sweeps
    tally, received, intact = Tally(len(drive), len(classes)), 0, True
    for frame in drive:
        while frame.stamp in expected and frame.stamp not in early:
            labelled = next(arriving)
            early[labelled.stamp] = labelled
        expected.discard(frame.stamp)
        labelled = early.pop(frame.stamp, None)
        size = len(frame.points)
        prediction = Prediction(np.full(size, UNLABELLED, np.uint8), np.zeros(size, np.float32), 0)
        if labelled is not None:
            received += 1
            same_frame = labelled.frame_id == (frame.frame_id or lidar_frame)  # two LiDARs may share the topic
            if same_frame and np.array_equal(labelled.points, frame.points, equal_nan=True):
                prediction = Prediction(labelled.labels, labelled.confidence, 0)
            else:
                intact = False
        tally.add(frame, prediction, None if reference is None else reference(frame))
    if not received:
        raise ValueError(f"recording {recording} holds {len(stamps)} predictions, but none for a sweep of the drive")
    counts = tally.arrays()
    scored = set(counts["stamps"].tolist())
    taken = [step for step in read_steps(recording) if step.stamp in scored]
    settings = {}
    if taken:  # the node may have raised its stride for a while, but never lowers it
        settings = {"stride": min(step.stride for step in taken), "learning_rate": taken[0].learning_rate}
    return Result(
        name=name, class_names=classes.names, settings=settings,
        timing=Timing(np.empty(0), np.array([step.seconds for step in taken])),
        problems=tuple(filter(None, [explain_steps(taken)])),
        delivery=Delivery(len(drive), received, bool((np.diff(stamps) > 0).all()), intact),
        **step_counts(taken), **counts,
    )


def read_steps(recording: Path) -> list[StepReport]:
    """Read the node's reports on ~/adaptation. Raises ValueError if one is incomplete."""
    steps = []
    with open_bag(recording) as bag:
        topic = topics.labelled_topic(bag.types).removesuffix(topics.LABELLED) + "adaptation"
        if topic in bag.types:
            topics.require(bag.types, topic, REPORTS)
        for record in bag.messages([topic]):
            message = bag.decode(record)
            for status in message.status:
                try:
                    steps.append(_parse_step(nanoseconds(message.header.stamp), status))
                except ValueError as error:
                    raise ValueError(f"recording {recording}, {topic}: {error}") from error
    return steps


def _parse_step(stamp: int, status) -> StepReport:
    """status: a diagnostic_msgs/DiagnosticStatus."""
    values = {pair.key: pair.value for pair in status.values}
    if missing := [name for name in REQUIRED if name not in values]:
        raise ValueError(f"a report lacks {', '.join(missing)}; it has {', '.join(values) or 'nothing'}")
    step = StepReport(
        stamp, 0, values["accepted"] == "true", values["reason"], float(values["loss"]), stride=int(values["stride"]),
        seconds=float(values["seconds"]), learning_rate=float(values["learning_rate"]),
        skipped=values.get("skipped") == "true",
    )
    if not math.isfinite(step.learning_rate):
        raise ValueError(f"a report's learning_rate is {step.learning_rate}, expected a finite number")
    return step
