"""Choosing which run and which sweeps of an evaluation to show, and drawing them."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import matplotlib
import numpy as np

from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.evaluation.feature_pictures import DrawFeatures
from tttkd_ros.evaluation.plots import overlay_figure, sweep_figure
from tttkd_ros.evaluation.result import Result, frozen_run
from tttkd_ros.frame import Frame

SWEEPS = 3  # shown, of those whose labels are stored, evenly spaced up to the last one


class Picture(NamedTuple):
    """Picture of a sweep. sweep: its number in the drive, from 1. source: a data URI."""

    sweep: int
    title: str
    source: str


def best_adapted(results: Sequence[Result]) -> Result | None:
    """The adapting run with the highest mIoU, controls excluded; without truth, the last such run.

    A run whose steps were all rejected counts, because its BatchNorm statistics may adapt without them.
    """
    adapting = [result for result in results if result.steps_tried]
    runs = [result for result in adapting if result.settings.get("control") is None]
    known = [result for result in runs if result.sweeps_with_truth]
    return max(known, key=Result.miou) if known else runs[-1] if runs else None


def gallery(drive: Drive, results: Sequence[Result], class_set: ClassSet,
            draw_features: DrawFeatures | None = None) -> Iterator[Picture]:
    """Draw a few sweeps from above and on the first camera's image, labelled by truth, frozen and best adapting run.

    draw_features: adds a picture of each sweep's features; None for none.
    """
    shown = [result for result in (frozen_run(results), best_adapted(results)) if result is not None]
    stamps = list(shown[0].samples) if shown else []
    if not stamps:
        return
    places = np.linspace(-1, len(stamps) - 1, SWEEPS + 1)[1:].round().astype(int)
    wanted = {stamps[place] for place in places}
    for number, frame in enumerate(drive, 1):
        if frame.stamp in wanted:
            wanted.remove(frame.stamp)
            yield from _pictures(number, frame, shown, class_set, draw_features)
        if not wanted:
            break


def _pictures(number: int, frame: Frame, shown: Sequence[Result], class_set: ClassSet,
              draw_features: DrawFeatures | None) -> Iterator[Picture]:
    panels = {}
    if frame.labels is not None and (frame.labels != UNLABELLED).any():
        panels["truth"] = frame.labels
    for result in shown:
        labels = result.samples.get(frame.stamp, ())
        if len(labels) == len(frame.points):
            miou = result.miou(result.stamps == frame.stamp)
            panels[result.title if np.isnan(miou) else f"{result.title}: mIoU {miou:.1f} on this sweep"] = labels
    if not panels:
        return
    # A run may be named after a folder, in which a dollar sign starts no formula.
    with TemporaryDirectory() as folder, matplotlib.rc_context({"text.parse_math": False}):
        path = Path(folder) / "picture.webp"
        sweep_figure(path, frame.points, panels, class_set)
        yield Picture(number, "from above", _data_uri(path))
        if frame.views:
            overlay_figure(path, frame.views[0], frame.projectable, panels, class_set)
            yield Picture(number, f"on the image of {frame.views[0].name}", _data_uri(path))
        if draw_features is not None and draw_features(path, frame):
            yield Picture(number, f"features on the image of {frame.views[0].name}; like colours are like features",
                          _data_uri(path))


def _data_uri(path: Path) -> str:
    return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}"
