"""Lossless replay of a drive through the pipeline, in process: every sweep is answered, every due step is taken.

The same pipeline as the node's, but steps run between predictions instead of beside them, so that a run depends on
nothing but its inputs: the same drive, weights and seed give the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import NamedTuple

import numpy as np

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.classes import CLASS_SETS
from tttkd_ros.diagnosis import explain_cameras, explain_steps, explain_sweeps
from tttkd_ros.evaluation.controls import MeanFeatures
from tttkd_ros.evaluation.drives import Drive, OtherImages, Shifted
from tttkd_ros.evaluation.result import Result, Timing, count_rejections, title
from tttkd_ros.evaluation.tally import Tally
from tttkd_ros.frame import Frame
from tttkd_ros.methods import METHODS, OFFLINE_KD, ONLINE_KD
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.segmenter.segmenter import Prediction, Segmenter
from tttkd_ros.segmenter.weights import Weights

CONTROLS = ("other-image", "mean-features", "no-image")
MEAN_IMAGES = 32  # images, evenly spaced over the drive, behind the mean feature map


@dataclass(frozen=True)
class Method:
    """What to run.

    name: "frozen" (the student as it is: the paper's Joint-Train), "source-only" (the same of a student that was
    trained without the teacher), one of the online methods of `methods.METHODS` (`config.steps` steps on every
    stride-th sweep, updates kept, each sweep predicted before it is trained on) or "ttt-kd" (offline: for every sweep
    by itself, `config.steps` steps from the shipped weights, predict, discard). rotations: about the vertical, over
    which logits are accumulated. images: of a sweep that are learnt from, at most. control: one of `CONTROLS`.
    shift_z: metres.
    """

    name: str = ONLINE_KD
    config: TTTConfig = field(default_factory=TTTConfig)
    control: str | None = None
    shift_z: float = 0.0
    seed: int = 0
    rotations: int = 1
    images: int | None = None

    def __post_init__(self):
        if self.name not in METHODS:
            raise ValueError(f"method is {self.name!r}, expected one of {', '.join(METHODS)}")
        if self.control is not None and self.control not in CONTROLS:
            raise ValueError(f"control is {self.control!r}, expected one of {', '.join(CONTROLS)}")
        for option, value in (("control", self.control), ("images", self.images)):
            if value is not None and not self.uses_images:
                raise ValueError(f"{option} {value!r} is of what is learnt from: {self.name!r} learns from no image")
        if not np.isfinite(self.shift_z):
            raise ValueError(f"shift_z is {self.shift_z} m, expected a finite number")
        for option, value in (("rotations", self.rotations), ("images", 1 if self.images is None else self.images)):
            if value < 1:
                raise ValueError(f"{option} is {value}, expected at least 1")

    @property
    def adapts(self) -> bool:
        return METHODS[self.name].build is not None

    @property
    def uses_images(self) -> bool:
        """Whether it learns from images, and so needs a camera and a teacher."""
        return METHODS[self.name].uses_images

    @property
    def learns_from(self) -> int | None:
        """Images of a sweep, at most; None for all."""
        return self.images if self.uses_images and self.control != "no-image" else 0

    @property
    def in_force(self) -> TTTConfig:
        """The guard is out of place in a control, which shows what learning from the wrong thing does, and offline,
        where every sweep begins anew: what is usual, it could never tell."""
        guarded = self.config.guard and self.control is None and self.name != OFFLINE_KD
        return replace(self.config, guard=guarded)

    @property
    def settings(self) -> dict[str, float | int | str | None]:
        """Those that have a part in the run; a method that is not TTT-KD has a learning rate of its own."""
        settings: dict[str, float | int | str | None] = {"seed": self.seed, "rotations": self.rotations}
        if self.adapts:
            settings["steps"] = self.config.steps
        if self.name in (ONLINE_KD, OFFLINE_KD):
            settings |= {"learning_rate": self.config.learning_rate, "bn_momentum": self.config.bn_momentum,
                         "kd_points": self.config.kd_points, "guard": self.in_force.guard}
        if self.uses_images:
            settings |= {"control": self.control, "images": self.images}
        if METHODS[self.name].online:
            settings["stride"] = self.config.stride
        if self.shift_z:
            settings["shift_z"] = self.shift_z
        return settings

    @property
    def title(self) -> str:
        return title(self.name, self.settings)


class _Answer(NamedTuple):
    """seconds: that the prediction took, without adaptation."""

    frame: Frame
    prediction: Prediction
    seconds: float


def check_fit(method: Method, student, teacher) -> None:
    """Raise the ValueError or FileNotFoundError of a method that adapts where it does not fit these models."""
    if method.adapts:
        METHODS[method.name].build(student, teacher, method.seed)


def replay(
    drive: Drive,
    student,
    teacher=None,
    method: Method | None = None,
    *,
    on_sweep: Callable[[Frame, Prediction], None] | None = None,
    reference: Callable[[Frame], np.ndarray] | None = None,
) -> Result:
    """Run one method over a drive and score every sweep against its truth, where it has one.

    student, teacher: as `Pipeline` takes them; neither is changed. on_sweep is called after each prediction.
    reference(frame): (N,) uint8, the frozen student's labels, asked for in the order of the sweeps. Raises ValueError
    where the method needs a teacher and there is none, or the drive holds no sweep.
    """
    method = method or Method()
    if method.uses_images and teacher is None:
        raise ValueError(f"method {method.name!r} learns from images and needs a teacher, got none")
    seen = Shifted(drive, method.shift_z) if method.shift_z else drive
    if method.control == "other-image":
        seen = OtherImages(seen)
    elif method.control == "mean-features":
        teacher = MeanFeatures(teacher, _spread_images(drive, MEAN_IMAGES))

    class_set = CLASS_SETS[student.config.class_set]
    reports: list[StepReport] = []
    tally, seconds, wrong, missing = Tally(len(drive), len(class_set)), [], [], []
    run = _offline if method.name == OFFLINE_KD else _online
    for answer in run(seen, student, teacher, method, reports):
        seconds.append(answer.seconds)
        wrong.append(answer.prediction.problem)
        missing.append(answer.frame.missing)
        tally.add(answer.frame, answer.prediction, None if reference is None else reference(answer.frame))
        if on_sweep is not None:
            on_sweep(answer.frame, answer.prediction)
    accepted = [report for report in reports if report.accepted]
    problems = [explain_sweeps(wrong)]
    if method.learns_from != 0 or not method.uses_images:  # else it is without images as asked for
        problems.append(explain_steps(reports))
    if method.uses_images and any(report.cameras for report in reports):  # else that is why the steps were refused
        problems += explain_cameras(missing)
    return Result(
        name=method.name,
        class_names=class_set.names,
        settings=method.settings,
        steps_tried=len(reports),
        steps_accepted=len(accepted),
        rejections=count_rejections(reports),
        losses=tuple((report.stamp, report.loss) for report in accepted if math.isfinite(report.loss)),
        timing=Timing(np.array(seconds), np.array([report.seconds for report in reports])),
        problems=tuple(filter(None, problems)),
        **tally.arrays(),
    )


def _online(drive: Drive, student, teacher, method: Method, reports: list) -> Iterator[_Answer]:
    spec = METHODS[method.name]
    build = partial(spec.build, student, teacher, method.seed) if method.adapts else None
    pipeline = Pipeline(
        spec.predictor(student), build, method.in_force, background=False, on_report=reports.append, rotations=method.rotations
    )
    try:
        for frame in drive:
            start = perf_counter()
            prediction = pipeline.segment(frame.upright)
            seconds = perf_counter() - start
            pipeline.adapt(frame.stamp, partial(_cut, frame, method.learns_from))
            yield _Answer(frame, prediction, seconds)
    finally:
        pipeline.close()


def _offline(drive: Drive, student, teacher, method: Method, reports: list) -> Iterator[_Answer]:
    adapter = METHODS[OFFLINE_KD].build(student, teacher, method.seed)
    segmenter = Segmenter(student, method.rotations)
    shipped = Weights.copied(0, student.backbone)
    for frame in drive:
        adapter.load_weights(shipped)
        reports.append(adapter.step(_cut(frame, method.learns_from), method.in_force))
        start = perf_counter()
        segmenter.load(adapter.weights())
        yield _Answer(frame, segmenter.segment(frame.upright), perf_counter() - start)


def _cut(frame: Frame, images: int | None) -> Frame:
    return frame if images is None else replace(frame, views=frame.views[:images])


def _spread_images(drive: Drive, count: int) -> list[np.ndarray]:
    chosen = set(np.linspace(0, len(drive) - 1, min(count, len(drive))).round().astype(int).tolist())
    images = [view.image for index, frame in enumerate(drive) if index in chosen for view in frame.views]
    if not images:
        raise ValueError("the drive holds no image: the control 'mean-features' needs some")
    return images
