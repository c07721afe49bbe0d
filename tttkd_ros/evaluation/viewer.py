"""A recording for the Rerun viewer: clouds, images and labels of an evaluation, sweep by sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.gallery import best_adapted, frozen_run
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import FROZEN, Method, replay
from tttkd_ros.evaluation.result import WINDOW
from tttkd_ros.evaluation.runs import BagResults
from tttkd_ros.files import put_in_place
from tttkd_ros.frame import Frame
from tttkd_ros.progress import progress
from tttkd_ros.segmenter.segmenter import Prediction, Segmenter

QUALITY = 80  # of the images' JPEG


def require_rerun() -> None:
    """Raises ValueError, saying what to do, where rerun-sdk is missing."""
    try:
        import rerun  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError("--rerun needs the package rerun-sdk: pip install 'tttkd_ros[rerun]'") from error


def record(
    path: Path, bags: Sequence[BagResults], drives: Mapping[str, BagDrive], methods: Sequence[Method], models: Models
) -> None:
    """Write an .rrd file, whole or not at all: of each bag the truth, the frozen student's labels and those of the best
    run that adapts, which is replayed once more, for the labels of a run are not kept."""
    import rerun

    shown = [(bag, method_to_show(bag, methods)) for bag in bags if bag.results]
    stream = rerun.RecordingStream("tttkd_ros")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        stream.save(unfinished, default_blueprint=_blueprint(shown, drives))
        stream.log("/", _classes(models.student.config.classes), rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        with progress() as bar:
            for bag, method in shown:
                task = bar.add_task(f"rerun: {method.title}", total=bag.sweeps, note=bag.bag)
                log = _Log(stream, bag, method, Segmenter(models.student, method.rotations))

                def on_sweep(frame: Frame, prediction: Prediction, task=task, log=log) -> None:
                    log(frame, prediction)
                    bar.advance(task)

                teacher = models.teacher if method.uses_images else None
                replay(drives[bag.bag], models.student, teacher, method, on_sweep=on_sweep)
        stream.disconnect()  # all is on disk
        put_in_place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def method_to_show(bag: BagResults, methods: Sequence[Method]) -> Method:
    """Of the methods that were run: the best that adapts on the bag, frozen where none does."""
    planned = {method.title: method for method in methods}
    best = best_adapted([result for result in bag.results if result.title in planned])
    if best is not None:
        return planned[best.title]
    return next(method for method in methods if method.name == FROZEN)


class _Log:
    """To be called with every sweep and what `method` says of it. frozen: the student as it is."""

    def __init__(self, stream, bag: BagResults, method: Method, frozen: Segmenter):
        self._stream, self._bag, self._method, self._frozen = stream, bag.bag, method, frozen
        self._sweep = 0
        adapted = next(result for result in bag.results if result.title == method.title)
        runs = {run.title: run for run in (frozen_run(bag.results), adapted) if run is not None}
        self._curves = {title: run.curve(WINDOW) for title, run in runs.items()}
        self._losses = dict(adapted.losses)

    def __call__(self, frame: Frame, prediction: Prediction) -> None:
        import rerun

        self._stream.set_time("sweep", sequence=self._sweep)
        self._stream.set_time("stamp", timestamp=np.datetime64(frame.stamp, "ns"))
        labellings = {"truth": frame.labels, FROZEN: prediction.labels}
        if self._method.adapts:
            labellings |= {FROZEN: self._frozen.segment(frame.upright).labels, self._method.title: prediction.labels}
        finite = np.isfinite(frame.points).all(1)
        for name, labels in labellings.items():
            if labels is not None:
                cloud = rerun.Points3D(frame.points[finite], class_ids=labels[finite])
                self._stream.log([self._bag, name], cloud)
        for view in frame.views:
            image = rerun.Image(view.image).compress(jpeg_quality=QUALITY)
            self._stream.log([self._bag, "camera", view.name], image)
        for title, curve in self._curves.items():
            if np.isfinite(curve[self._sweep]):
                self._stream.log([self._bag, "mIoU", title], rerun.Scalars(curve[self._sweep]))
        if frame.stamp in self._losses:
            self._stream.log([self._bag, "loss"], rerun.Scalars(self._losses[frame.stamp]))
        self._sweep += 1


def _classes(class_set: ClassSet):
    from rerun import AnnotationContext

    named = [(label, name, class_set.colours[label]) for label, name in enumerate(class_set.names)]
    unlabelled = UNLABELLED, "unlabelled", tuple(class_set.palette[UNLABELLED].tolist())
    return AnnotationContext([*named, unlabelled])


def _blueprint(shown: Sequence[tuple[BagResults, Method]], drives: Mapping[str, BagDrive]):
    """A tab for each bag: the labellings side by side, below them images and curves."""
    from rerun import new_entity_path
    from rerun.blueprint import Blueprint, Horizontal, Spatial2DView, Spatial3DView, Tabs, TimeSeriesView, Vertical

    tabs = []
    for bag, method in shown:
        def origin(*names: str, bag=bag) -> str:
            return new_entity_path([bag.bag, *names])

        labellings = [*(["truth"] if bag.truth else []), FROZEN, *([method.title] if method.adapts else [])]
        clouds = [Spatial3DView(origin=origin(name), name=name) for name in labellings]
        images = [Spatial2DView(origin=origin("camera", name), name=name) for name in drives[bag.bag].cameras]
        curves = [TimeSeriesView(origin=origin(name), name=name) for name in ("mIoU", "loss")]
        tabs.append(Vertical(Horizontal(*clouds), Horizontal(*images, *curves), row_shares=[3, 2], name=bag.bag))
    return Blueprint(Tabs(*tabs))
