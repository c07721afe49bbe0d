"""Recording an evaluation for the Rerun viewer: clouds, images and labels, sweep by sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.gallery import best_adapted, frozen_run
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import RunConfig, replay
from tttkd_ros.evaluation.result import WINDOW
from tttkd_ros.evaluation.runs import BagResults
from tttkd_ros.files import put_in_place
from tttkd_ros.frame import Frame
from tttkd_ros.methods import FROZEN
from tttkd_ros.segmenter.segmenter import Prediction, Segmenter

JPEG_QUALITY = 80


def require_rerun() -> None:
    """Raise ValueError if rerun-sdk is not installed."""
    try:
        import rerun  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError("--rerun needs the package rerun-sdk: pip install 'tttkd_ros[rerun]'") from error


def record(
    path: Path, bags: Sequence[BagResults], drives: Mapping[str, BagDrive], runs: Sequence[RunConfig], models: Models
) -> None:
    """Write an .rrd file, whole or not at all.

    For each bag it has the truth, the frozen student's labels and those of the best adapting run. That run is replayed
    once more, because a run's labels are not stored.
    """
    import rerun

    shown = [(bag, run_to_show(bag, runs)) for bag in bags if bag.results]
    stream = rerun.RecordingStream("tttkd_ros")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        stream.save(unfinished, default_blueprint=_blueprint(shown, drives))
        stream.log("/", _classes(models.student.config.classes), rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        with Progress() as bar:
            for bag, run in shown:
                task = bar.add_task(f"rerun: {bag.bag}: {run.title}", total=bag.sweeps)
                log = _SweepLog(stream, bag, run, Segmenter(models.student, run.rotations))

                def on_sweep(frame: Frame, prediction: Prediction, task=task, log=log) -> None:
                    log(frame, prediction)
                    bar.advance(task)

                teacher = models.teacher if run.uses_images else None
                replay(drives[bag.bag], models.student, teacher, run, on_sweep=on_sweep)
        stream.disconnect()  # writes the rest to disk
        put_in_place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def run_to_show(bag: BagResults, runs: Sequence[RunConfig]) -> RunConfig:
    """The best adapting run on the bag, or the frozen one if none adapts."""
    planned = {run.title: run for run in runs}
    best = best_adapted([result for result in bag.results if result.title in planned])
    if best is not None:
        return planned[best.title]
    return next(run for run in runs if run.method == FROZEN)


class _SweepLog:
    """Logs every sweep with the labels of `run`. frozen: the student without adaptation."""

    def __init__(self, stream, bag: BagResults, run: RunConfig, frozen: Segmenter):
        self._stream, self._bag, self._run, self._frozen = stream, bag.bag, run, frozen
        self._sweep = 0
        adapted = next(result for result in bag.results if result.title == run.title)
        results = {result.title: result for result in (frozen_run(bag.results), adapted) if result is not None}
        self._curves = {title: result.curve(WINDOW) for title, result in results.items()}
        self._losses = dict(adapted.losses)

    def __call__(self, frame: Frame, prediction: Prediction) -> None:
        import rerun

        self._stream.set_time("sweep", sequence=self._sweep)
        self._stream.set_time("stamp", timestamp=np.datetime64(frame.stamp, "ns"))
        labellings = {"truth": frame.labels, FROZEN: prediction.labels}
        if self._run.adapts:
            labellings |= {FROZEN: self._frozen.segment(frame.upright).labels, self._run.title: prediction.labels}
        finite = np.isfinite(frame.points).all(1)
        for name, labels in labellings.items():
            if labels is not None:
                cloud = rerun.Points3D(frame.points[finite], class_ids=labels[finite])
                self._stream.log([self._bag, name], cloud)
        for view in frame.views:
            image = rerun.Image(view.image).compress(jpeg_quality=JPEG_QUALITY)
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


def _blueprint(shown: Sequence[tuple[BagResults, RunConfig]], drives: Mapping[str, BagDrive]):
    """One tab per bag: the labellings side by side, images and curves below them."""
    from rerun import new_entity_path
    from rerun.blueprint import Blueprint, Horizontal, Spatial2DView, Spatial3DView, Tabs, TimeSeriesView, Vertical

    tabs = []
    for bag, run in shown:
        def origin(*names: str, bag=bag) -> str:
            return new_entity_path([bag.bag, *names])

        labellings = [*(["truth"] if bag.truth else []), FROZEN, *([run.title] if run.adapts else [])]
        clouds = [Spatial3DView(origin=origin(name), name=name) for name in labellings]
        images = [Spatial2DView(origin=origin("camera", name), name=name) for name in drives[bag.bag].cameras]
        curves = [TimeSeriesView(origin=origin(name), name=name) for name in ("mIoU", "loss")]
        tabs.append(Vertical(Horizontal(*clouds), Horizontal(*images, *curves), row_shares=[3, 2], name=bag.bag))
    return Blueprint(Tabs(*tabs))
