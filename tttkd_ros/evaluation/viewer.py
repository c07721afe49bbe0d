"""Recording an evaluation for the Rerun viewer: clouds, images and labels, sweep by sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path

import numpy as np
from rich.progress import Progress

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.evaluation.drives import DescribedDrive
from tttkd_ros.evaluation.gallery import best_adapted
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import RunConfig, injected_images, replay
from tttkd_ros.evaluation.result import WINDOW, frozen_run
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


def write_recording(
    path: Path, bags: Sequence[BagResults], drives: Mapping[str, DescribedDrive], runs: Sequence[RunConfig],
    models: Models,
) -> None:
    """Write an .rrd file, whole or not at all.

    For each bag it has the truth, the frozen student's labels and those of the best adapting run. That run is replayed
    once more, because a run's labels are not stored.
    """
    import rerun

    shown = [(bag, run_to_show(bag, runs)) for bag in bags if bag.results]
    class_set = models.student.config.class_set
    named = zip((*class_set.names, "unlabelled"), (*range(len(class_set)), UNLABELLED), strict=True)
    classes = [(label, name, tuple(class_set.palette[label].tolist())) for name, label in named]
    stream = rerun.RecordingStream("tttkd_ros")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        stream.save(unfinished, default_blueprint=_blueprint(shown, drives))
        stream.log("/", rerun.AnnotationContext(classes), rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        with Progress() as bar:
            for bag, run in shown:
                task = bar.add_task(f"rerun: {bag.bag}: {run.title}", total=bag.sweeps)
                log = _sweep_logger(stream, bag, run, models)

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


def _sweep_logger(stream, bag: BagResults, run: RunConfig, models: Models) -> Callable[[Frame, Prediction], None]:
    """Function that logs the next sweep with the labels of `run`, and of the student without adaptation."""
    import rerun

    adapted = next(result for result in bag.results if result.title == run.title)
    results = {result.title: result for result in (frozen_run(bag.results), adapted) if result is not None}
    curves = {title: result.curve(WINDOW) for title, result in results.items()}
    losses, sweeps, frozen = dict(adapted.losses), count(), Segmenter(models.student, run.rotations)
    teacher = models.teacher if run.uses_images else None

    def log(frame: Frame, prediction: Prediction) -> None:
        sweep = next(sweeps)
        stream.set_time("sweep", sequence=sweep)
        stream.set_time("stamp", timestamp=np.datetime64(frame.stamp, "ns"))
        labellings = {"truth": frame.labels, FROZEN: prediction.labels}
        if run.adapts:
            _, images = injected_images(frame, models.student, teacher, run.seed)
            unadapted = frozen.segment(frame.upright, frame.upright_features, images)
            labellings |= {FROZEN: unadapted.labels, run.title: prediction.labels}
        finite = np.isfinite(frame.points).all(1)
        for name, labels in labellings.items():
            if labels is not None:
                stream.log([bag.bag, name], rerun.Points3D(frame.points[finite], class_ids=labels[finite]))
        for view in frame.views:
            image = rerun.Image(view.image).compress(jpeg_quality=JPEG_QUALITY)
            stream.log([bag.bag, "camera", view.name], image)
        for title, curve in curves.items():
            if np.isfinite(curve[sweep]):
                stream.log([bag.bag, "mIoU", title], rerun.Scalars(curve[sweep]))
        if frame.stamp in losses:
            stream.log([bag.bag, "loss"], rerun.Scalars(losses[frame.stamp]))

    return log


def _blueprint(shown: Sequence[tuple[BagResults, RunConfig]], drives: Mapping[str, DescribedDrive]):
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
