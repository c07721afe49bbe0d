"""Lossless replay: run a method over a drive in process. Every sweep is predicted, and every due step is taken.

The pipeline is the node's, but steps run between predictions instead of beside them. So a run depends only on its
inputs: the same drive, weights and seed give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

from tttkd_ros.adaptation.adapter import Adapter, StepReport
from tttkd_ros.adaptation.config import TTTConfig, paper_config
from tttkd_ros.adaptation.targets import image_features, with_features
from tttkd_ros.diagnosis import explain_cameras, explain_steps, explain_sweeps
from tttkd_ros.evaluation.drives import Drive, MeanFeatures, OtherImages, Shifted
from tttkd_ros.evaluation.metrics import Tally
from tttkd_ros.evaluation.result import Result, Timing, step_counts, title
from tttkd_ros.frame import Frame
from tttkd_ros.methods import FROZEN, METHODS, OFFLINE_KD, ONLINE_KD, PAPER_KD, TTT_KD
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.segmenter import Prediction, Segmenter
from tttkd_ros.segmenter.weights import Weights

OTHER_IMAGE, MEAN_FEATURES, NO_IMAGE = CONTROLS = ("other-image", "mean-features", "no-image")
PAPER_LEARNING_RATE = 0.1  # outdoors
MEAN_IMAGES = 32  # images, evenly spaced over the drive, that the mean feature map is computed from


@dataclass(frozen=True)
class RunConfig:
    """One run: a method and its settings.

    method: "frozen" is the student without adaptation (the paper's Joint-Train). "source-only", "distilled" and
        "oracle" are the same for students of other trainings. The online methods take `config.steps` steps on every
        stride-th sweep, after it is predicted, and keep the updates. "ttt-kd-o-paper" does so with the paper's
        algorithm and settings. "ttt-kd" is offline: for each sweep it starts from the shipped weights, takes
        `config.steps` steps, predicts and discards the updates.
    control: one of `CONTROLS`: another sweep's images, one mean feature map, or no images, to learn from and to inject.
    shift_z: metres to move every cloud upwards. seed: of the choice of points. rotations: see `Segmenter`.
    images: maximum number of images per sweep to learn from and to inject; None for all.
    injects: the student takes image features while it predicts, so that frozen uses images, too.
    learning_rate: of a method with `own_learning_rate`; None for its default. TTT-KD's is in `config`.
    image_head: file of the one that xmuda and mm-tta use; None for the one that ships.
    """

    method: str = ONLINE_KD
    config: TTTConfig = field(default_factory=TTTConfig)
    control: str | None = None
    shift_z: float = 0.0
    seed: int = 0
    rotations: int = 1
    images: int | None = None
    learning_rate: float | None = None
    image_head: Path | None = None
    injects: bool = False

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.control is not None and self.control not in CONTROLS:
            raise ValueError(f"control is {self.control!r}, expected one of {', '.join(CONTROLS)}")
        for option, value in (("control", self.control), ("images", self.images)):
            if value is not None and not self.uses_images:
                raise ValueError(f"{option} is {value!r}, but {self.method!r} learns from no image: leave it out")
        if self.learning_rate is not None and not METHODS[self.method].own_learning_rate:
            raise ValueError(f"learning_rate is {self.learning_rate}, but {self.method!r} has none of its own: "
                             "leave it out")
        if not np.isfinite(self.shift_z):
            raise ValueError(f"shift_z is {self.shift_z} m, expected a finite number")
        for option, value in (("rotations", self.rotations), ("images", self.images)):
            if value is not None and value < 1:
                raise ValueError(f"{option} is {value}, expected at least 1")

    @property
    def adapts(self) -> bool:
        return METHODS[self.method].build is not None

    @property
    def is_baseline(self) -> bool:
        """Whether the run is the one that others are compared with: the student as it is, with all that it takes."""
        return self.method == FROZEN and self.control is None and self.images is None

    @property
    def learns_from_images(self) -> bool:
        """Whether the method learns from images, so needs a camera."""
        return METHODS[self.method].uses_images

    @property
    def uses_images(self) -> bool:
        """Whether the run learns from images or injects them, so needs a teacher."""
        return self.learns_from_images or self.injects

    def shown(self, frame: Frame) -> Frame:
        """Return a frame with the images that the run may use, and without the labels."""
        return replace(frame, views=frame.views[: 0 if self.control == NO_IMAGE else self.images], labels=None)

    def training_frame(self, shown: Frame) -> Frame:
        """Return what an adapter gets of a frame that `shown` has returned."""
        return shown if self.learns_from_images else replace(shown, views=())

    @property
    def effective_config(self) -> TTTConfig:
        """`config` without a limit in time, and without the guard if the run is a control or offline.

        A control shows what learning from the wrong thing does, so nothing may prevent it. Offline, the guard cannot
        know what is normal, because every sweep starts anew. A limit in time would make the result depend on the
        machine. The other methods take one step on a sweep, as their sources do.
        """
        if self.method not in TTT_KD:
            return replace(self.config, steps=1)
        if self.method == PAPER_KD:
            paper = replace(self.config, learning_rate=PAPER_LEARNING_RATE, steps=1, rotations=1, seconds=0.0)
            return paper_config(paper)
        guard = self.config.guard and self.control is None and self.method != OFFLINE_KD
        return replace(self.config, guard=guard, seconds=0.0)

    @property
    def settings(self) -> dict[str, float | int | str | None]:
        """Settings that affect this run. The learning rate of a baseline is one if it is not the method's default."""
        settings: dict[str, float | int | str | None] = {"seed": self.seed, "rotations": self.rotations}
        config = self.effective_config
        if self.adapts:
            settings["steps"] = config.steps
        if self.method in TTT_KD:
            names = ("learning_rate", "bn_momentum", "kd_points", "guard", "crop")
            settings |= {name: getattr(config, name) for name in names} | {"train_rotations": config.rotations}
        if self.learning_rate is not None:
            settings["learning_rate"] = self.learning_rate
        if self.uses_images:
            settings |= {"control": self.control, "images": self.images}
        if METHODS[self.method].online:
            settings["stride"] = self.config.stride
        if self.shift_z:
            settings["shift_z"] = self.shift_z
        return settings

    @property
    def title(self) -> str:
        return title(self.method, self.settings)

    def build_adapter(self, student, teacher) -> Adapter:
        """Make the adapter of a run that adapts. Raises ValueError or FileNotFoundError if the models do not fit."""
        own = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        if METHODS[self.method].uses_image_head and self.image_head is not None:
            own["image_head"] = self.image_head
        return METHODS[self.method].build(student, teacher, self.seed, **own)


TimedPrediction = tuple[Frame, Prediction, float]  # a sweep's, with the seconds that it took without adaptation


def check_fit(run: RunConfig, student, teacher) -> None:
    """Build the run's adapter once. Raises ValueError or FileNotFoundError if the models do not fit the method."""
    if run.adapts:
        run.build_adapter(student, teacher)


def replay(
    drive: Drive, student, teacher=None, run: RunConfig | None = None, *,
    on_sweep: Callable[[Frame, Prediction], None] | None = None,
    reference: Callable[[Frame], np.ndarray] | None = None,
) -> Result:
    """Run one method (by default online TTT-KD) over a drive and score every sweep that has truth.

    The student and the teacher are not changed. on_sweep: called after each prediction. reference: returns the frozen
    student's labels (N,) uint8 of a sweep; called once for each, in order. Raises ValueError if the method needs a
    teacher and there is none, or the drive has no sweep.
    """
    run = run or RunConfig()
    if teacher is None and (run.uses_images or student.config.injection):
        learns = run.learns_from_images
        user = f"method {run.method!r} learns from images" if learns else "the student takes image features"
        raise ValueError(f"{user} and needs a teacher, got none")
    shown = Shifted(drive, run.shift_z) if run.shift_z else drive
    if run.control == OTHER_IMAGE:
        shown = OtherImages(shown)
    elif run.control == MEAN_FEATURES:
        teacher = MeanFeatures(teacher, _spread_images(drive, MEAN_IMAGES))

    class_set = student.config.class_set
    reports: list[StepReport] = []
    tally, seconds, problems, missing, images = Tally(len(drive), len(class_set)), [], [], [], 0
    predict = _offline if run.method == OFFLINE_KD else _online
    for frame, prediction, duration in predict(shown, student, teacher, run, reports):
        seconds.append(duration)
        problems.append(prediction.problem)
        missing.append(frame.missing)
        images += len(frame.views)
        tally.add(frame, prediction, None if reference is None else reference(frame))
        if on_sweep is not None:
            on_sweep(frame, prediction)
    explanations = [explain_sweeps(problems)]
    if run.control != NO_IMAGE or not run.learns_from_images:  # otherwise the images are left out on purpose
        explanations.append(explain_steps(reports))
    injects = run.injects and run.control != NO_IMAGE
    if injects and not images:
        explanations.append("no sweep has an image, so the student predicts without")
    if injects or run.learns_from_images and any(report.cameras for report in reports):  # otherwise explain_steps does
        explanations += explain_cameras(missing)
    return Result(
        name=run.method, class_names=class_set.names, settings=run.settings,
        timing=Timing(np.array(seconds), np.array([report.seconds for report in reports])),
        problems=tuple(filter(None, explanations)), **step_counts(reports), **tally.arrays(),
    )


def _online(drive: Drive, student, teacher, run: RunConfig, reports: list) -> Iterator[TimedPrediction]:
    spec = METHODS[run.method]
    build = partial(run.build_adapter, student, teacher) if run.adapts else None
    pipeline = Pipeline(
        spec.predictor(student), build, run.effective_config, background=False, on_report=reports.append,
        rotations=run.rotations,
    )
    try:
        for frame in drive:
            start = perf_counter()
            shown, images = run.shown(frame), None
            if not pipeline.distrusts_images:
                shown, images = injected_images(shown, student, teacher, run.seed)
            prediction = pipeline.segment(frame.upright, frame.upright_features, images)
            seconds = perf_counter() - start
            pipeline.adapt(frame.stamp, partial(run.training_frame, shown))
            yield frame, prediction, seconds
    finally:
        pipeline.close()


def _offline(drive: Drive, student, teacher, run: RunConfig, reports: list) -> Iterator[TimedPrediction]:
    adapter = run.build_adapter(student, teacher)
    segmenter = Segmenter(student, run.rotations)
    shipped = Weights.copied(0, student.backbone)
    for frame in drive:
        adapter.load_weights(shipped)
        start = perf_counter()
        shown, images = injected_images(run.shown(frame), student, teacher, run.seed)
        seconds = perf_counter() - start
        reports.append(adapter.step(run.training_frame(shown), run.effective_config))
        start = perf_counter()
        segmenter.load(adapter.weights())
        prediction = segmenter.segment(frame.upright, frame.upright_features, images)
        yield frame, prediction, seconds + perf_counter() - start


def injected_images(shown: Frame, student, teacher, seed: int) -> tuple[Frame, ImageFeatures | None]:
    """Return a frame with the teacher's features, and those of its points, if the student takes them."""
    if not student.config.injection:
        return shown, None
    shown = with_features(shown, teacher)
    return shown, image_features(shown, teacher, seed)


def _spread_images(drive: Drive, count: int) -> list[np.ndarray]:
    chosen = set(np.linspace(0, len(drive) - 1, min(count, len(drive))).round().astype(int).tolist())
    images = [view.image for index, frame in enumerate(drive) if index in chosen for view in frame.views]
    if not images:
        raise ValueError("the drive has no image: the control 'mean-features' needs some")
    return images
