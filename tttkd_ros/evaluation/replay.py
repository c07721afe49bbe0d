"""Lossless replay of a drive through the pipeline, in process: every sweep is answered, every due step is taken.

The same pipeline as the node's, but steps run between predictions instead of beside them, so that a run depends on
nothing but its inputs: the same drive, weights and seed give the same result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from tttkd_ros.adaptation.adapter import StepReport, Weights
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.controls import MeanFeatures
from tttkd_ros.adaptation.ttt_kd import TTTKD
from tttkd_ros.classes import CLASS_SETS
from tttkd_ros.evaluation.drives import Drive, OtherImages, Shifted
from tttkd_ros.evaluation.metrics import confusion
from tttkd_ros.evaluation.result import Result
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.projection import project
from tttkd_ros.pipeline import Pipeline, Segmenter

METHODS = ("frozen", "ttt-kd-o", "ttt-kd")
CONTROLS = ("other-image", "mean-features")
MEAN_IMAGES = 32  # images, evenly spaced over the drive, behind the mean feature map


@dataclass(frozen=True)
class Method:
    """What to run.

    name: "frozen" (the shipped student), "ttt-kd-o" (online: `config.steps` steps on every stride-th sweep, updates
    kept, each sweep predicted before it is trained on) or "ttt-kd" (offline: for every sweep by itself, `config.steps`
    steps from the shipped weights, predict, discard). control: one of `CONTROLS`. shift_z: metres.
    """

    name: str = "ttt-kd-o"
    config: TTTConfig = field(default_factory=TTTConfig)
    control: str | None = None
    shift_z: float = 0.0
    seed: int = 0

    def __post_init__(self):
        if self.name not in METHODS:
            raise ValueError(f"method is {self.name!r}, expected one of {', '.join(METHODS)}")
        if self.control is not None and self.control not in CONTROLS:
            raise ValueError(f"control is {self.control!r}, expected one of {', '.join(CONTROLS)}")
        if self.control is not None and not self.adapts:
            raise ValueError(f"control {self.control!r} changes what is learnt from: it needs a method that adapts")
        if not np.isfinite(self.shift_z):
            raise ValueError(f"shift_z is {self.shift_z} m, expected a finite number")

    @property
    def adapts(self) -> bool:
        return self.name != "frozen"

    @property
    def in_force(self) -> TTTConfig:
        """A control shows what learning from the wrong thing does, so that it must not be kept from it."""
        return self.config if self.control is None else replace(self.config, guard=False)

    @property
    def settings(self) -> dict[str, float | int | str | None]:
        settings: dict[str, float | int | str | None] = {"seed": self.seed}
        if self.adapts:
            settings |= {"learning_rate": self.config.learning_rate, "steps": self.config.steps,
                         "kd_points": self.config.kd_points, "guard": self.in_force.guard, "control": self.control}
        if self.name == "ttt-kd-o":
            settings["stride"] = self.config.stride
        if self.shift_z:
            settings["shift_z"] = self.shift_z
        return settings


def replay(
    drive: Drive,
    student,
    teacher=None,
    method: Method | None = None,
    *,
    on_sweep: Callable[[Frame, np.ndarray], None] | None = None,
) -> Result:
    """Run one method over a drive and score every sweep against its truth.

    student, teacher: as `Pipeline` takes them; neither is changed. on_sweep(frame, labels (N,) uint8) is called after
    each prediction. Raises ValueError where the method needs a teacher and there is none, or a sweep has no truth.
    """
    method = method or Method()
    if method.adapts and teacher is None:
        raise ValueError(f"method {method.name!r} adapts and needs a teacher, got none")
    seen = Shifted(drive, method.shift_z) if method.shift_z else drive
    if method.control == "other-image":
        seen = OtherImages(seen)
    elif method.control == "mean-features":
        teacher = MeanFeatures(teacher, _spread_images(drive, MEAN_IMAGES))

    class_set = CLASS_SETS[student.config.class_set]
    reports: list[StepReport] = []
    run = _offline if method.name == "ttt-kd" else _online
    stamps, matrices = [], []
    for frame, labels in run(seen, student, teacher, method, reports):
        stamps.append(frame.stamp)
        matrices.append(score(frame, labels, len(class_set)))
        if on_sweep is not None:
            on_sweep(frame, labels)
    if not stamps:
        raise ValueError("the drive holds no sweep: nothing to evaluate")
    accepted = [report for report in reports if report.accepted]
    return Result(
        name=method.name,
        class_names=class_set.names,
        stamps=np.array(stamps, np.int64),
        matrices=np.stack(matrices),
        settings=method.settings,
        steps_tried=len(reports),
        steps_accepted=len(accepted),
        rejections=dict(Counter(report.reason for report in reports if not report.accepted)),
        losses=tuple((report.stamp, report.loss) for report in accepted),
    )


def score(frame: Frame, labels: np.ndarray, classes: int) -> np.ndarray:
    """(2, C, C + 1) confusion of one sweep's labels (N,): of the points that no camera saw, and of those one saw."""
    if frame.labels is None:
        raise ValueError(f"the sweep stamped {frame.stamp} has no truth to score against")
    visible = visible_points(frame)
    return np.stack([confusion(frame.labels[group], labels[group], classes) for group in (~visible, visible)])


def visible_points(frame: Frame) -> np.ndarray:
    """(N,) bool: the points that at least one of the frame's cameras sees."""
    visible = np.zeros(len(frame.points), bool)
    points = torch.tensor(frame.projectable)  # a copy: a bag's arrays are read-only
    for view in frame.views:
        visible |= project(points, view.camera, view.camera_from_lidar).visible.numpy()
    return visible


def _online(drive: Drive, student, teacher, method: Method, reports: list) -> Iterator[tuple[Frame, np.ndarray]]:
    build = partial(TTTKD, student, teacher, seed=method.seed) if method.adapts else None
    pipeline = Pipeline(student, build, method.in_force, background=False, on_report=reports.append)
    try:
        for frame in drive:
            yield frame, pipeline.process(frame.stamp, frame.points, lambda frame=frame: frame).labels
    finally:
        pipeline.close()


def _offline(drive: Drive, student, teacher, method: Method, reports: list) -> Iterator[tuple[Frame, np.ndarray]]:
    adapter = TTTKD(student, teacher, seed=method.seed)
    segmenter = Segmenter(student)
    shipped = Weights.copied(0, student.backbone)
    for frame in drive:
        adapter.adopt(shipped)
        reports.append(adapter.step(frame, method.in_force))
        segmenter.load(adapter.weights())
        yield frame, segmenter.segment(frame.points).labels


def _spread_images(drive: Drive, count: int) -> list[np.ndarray]:
    chosen = set(np.linspace(0, len(drive) - 1, min(count, len(drive))).round().astype(int).tolist())
    images = [view.image for index, frame in enumerate(drive) if index in chosen for view in frame.views]
    if not images:
        raise ValueError("the drive holds no image: the control 'mean-features' needs some")
    return images
