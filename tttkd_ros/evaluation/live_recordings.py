"""Recordings of what the node answered, scored as runs are: labels against the truth, and the steps that it took."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.labelled import labelled_stamps, read_labelled
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.diagnosis import explain_steps
from tttkd_ros.evaluation.drives import BagDrive, Drive
from tttkd_ros.evaluation.inputs import bag_names
from tttkd_ros.evaluation.result import Delivery, Result, Timing, count_rejections
from tttkd_ros.evaluation.runs import BagResults
from tttkd_ros.evaluation.store import LabelFile
from tttkd_ros.evaluation.tally import Tally
from tttkd_ros.frame import Frame
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.segmenter.segmenter import Prediction

LIVE = "live"
REPORTS = "diagnostic_msgs/msg/DiagnosticArray"


class Step(NamedTuple):
    """What ~/adaptation said of a step for the sweep at `stamp`, nanoseconds."""

    stamp: int
    accepted: bool
    reason: str
    loss: float
    seconds: float
    stride: int
    learning_rate: float
    skipped: bool = False


def live_names(recordings: Sequence[Path]) -> dict[str, Path]:
    """What to call the recordings' runs. Raises ValueError for what is no recording of a node's answers."""
    for path in recordings:
        with open_bag(path) as bag:
            topics.labelled_topic(bag.types)
    if len(recordings) == 1:
        return {LIVE: recordings[0]}
    return {f"{LIVE} {name}": path for name, path in bag_names(recordings).items()} if recordings else {}


def with_recordings(
    bag: BagResults, drive: BagDrive, recordings: Mapping[str, Path], classes: ClassSet, frozen: LabelFile
) -> BagResults:
    """The results on one bag with those of its recordings; of one that does not fit, the reason.

    frozen: the frozen student's labels, where there are any.
    """
    results, left_out = list(bag.results), dict(bag.left_out)
    for name, path in recordings.items():
        try:
            if frozen.path.is_file():
                with frozen.read() as reference:
                    results.append(score_recording(name, drive, path, classes, drive.lidar_frame, reference))
            else:
                results.append(score_recording(name, drive, path, classes, drive.lidar_frame))
        except ValueError as error:
            left_out[name] = str(error)
    return replace(bag, results=tuple(results), left_out=left_out)


def score_recording(
    name: str,
    drive: Drive,
    recording: Path,
    classes: ClassSet,
    lidar_frame: str,
    reference: Callable[[Frame], np.ndarray] | None = None,
) -> Result:
    """Score the recorded labels by stamp; a sweep that was not answered, or not whole, counts as all unlabelled. Steps
    are those of the drive's sweeps: a recording may go on where a limit has ended the drive.

    reference: as for `replay`. Raises ValueError where none of the drive's sweeps is answered.
    """
    stamps = labelled_stamps(recording)
    awaited, arriving = set(stamps), read_labelled(recording)
    held = {}  # answers that arrived before the sweep in hand was reached: none, if in order
    tally, received, intact = Tally(len(drive), len(classes)), 0, True
    for frame in drive:
        while frame.stamp in awaited and frame.stamp not in held:
            answer = next(arriving)
            held[answer.stamp] = answer
        awaited.discard(frame.stamp)
        answer = held.pop(frame.stamp, None)
        prediction = _nothing(len(frame.points))
        if answer is not None:
            received += 1
            same_frame = answer.frame_id == (frame.frame_id or lidar_frame)  # two LiDARs may share the topic
            if same_frame and np.array_equal(answer.points, frame.points, equal_nan=True):
                prediction = Prediction(answer.labels, answer.confidence, 0)
            else:
                intact = False
        tally.add(frame, prediction, None if reference is None else reference(frame))
    if not received:
        raise ValueError(f"recording {recording} holds {len(stamps)} answers, but none to a sweep of the drive")
    counts = tally.arrays()
    scored = set(counts["stamps"].tolist())
    taken = [step for step in steps(recording) if step.stamp in scored]
    accepted = [step for step in taken if step.accepted]
    return Result(
        name=name,
        class_names=classes.names,
        # The stride may have been stretched for a while, never cut.
        settings={"stride": min(step.stride for step in taken), "learning_rate": taken[0].learning_rate}
        if taken else {},
        steps_tried=len(taken),
        steps_accepted=len(accepted),
        rejections=count_rejections(taken),
        losses=tuple((step.stamp, step.loss) for step in accepted if math.isfinite(step.loss)),
        timing=Timing(np.empty(0), np.array([step.seconds for step in taken])),
        problems=tuple(filter(None, [explain_steps(taken)])),
        delivery=Delivery(len(drive), received, bool((np.diff(stamps) > 0).all()), intact),
        **counts,
    )


def steps(recording: Path) -> list[Step]:
    """The steps that the node told of on ~/adaptation, beside the labelled clouds."""
    found = []
    with open_bag(recording) as bag:
        topic = topics.labelled_topic(bag.types).removesuffix(topics.LABELLED) + "adaptation"
        if topic in bag.types:
            topics.require(bag.types, topic, REPORTS)
        for record in bag.messages([topic]):
            message = bag.decode(record)
            for status in message.status:
                try:
                    found.append(_step(nanoseconds(message.header.stamp), status))
                except ValueError as error:
                    raise ValueError(f"recording {recording}, {topic}: {error}") from error
    return found


def _step(stamp: int, status) -> Step:
    """status: a diagnostic_msgs/DiagnosticStatus."""
    values = {pair.key: pair.value for pair in status.values}
    if missing := [name for name in Step._fields if name not in {"stamp", *Step._field_defaults, *values}]:
        raise ValueError(f"a report lacks {', '.join(missing)}; it has {', '.join(values) or 'nothing'}")
    step = Step(
        stamp, values["accepted"] == "true", values["reason"], float(values["loss"]), float(values["seconds"]),
        int(values["stride"]), float(values["learning_rate"]), values.get("skipped") == "true",
    )
    if not math.isfinite(step.learning_rate):
        raise ValueError(f"a report's learning_rate is {step.learning_rate}, expected a finite number")
    return step


def _nothing(points: int) -> Prediction:
    return Prediction(np.full(points, UNLABELLED, np.uint8), np.zeros(points, np.float32), 0)
