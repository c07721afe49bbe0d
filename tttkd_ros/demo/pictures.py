"""Pictures of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tttkd_ros.bags.labelled import read_labelled
from tttkd_ros.classes import ClassSet
from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.evaluation.metrics import mean_iou
from tttkd_ros.evaluation.plots import depth_figure, overlay_figure, sweep_figure
from tttkd_ros.evaluation.result import Result
from tttkd_ros.frame import Frame


def sweep_pictures(
    out: Path, drive: Drive, frozen: tuple[Result, Path], adapted: tuple[Result, Path], class_set: ClassSet, name: str
) -> None:
    """Write `sweep.png` and `overlay.png`: a sweep labelled by truth, frozen and adapted.

    It has the median gain in the second half, as neither the best nor the worst case. frozen, adapted: the scored run
    and its recording. name: title of the adapted run.
    """
    before, after = ([mean_iou(matrix.sum(0)) for matrix in result.matrices] for result, _ in (frozen, adapted))
    half = len(before) // 2
    order = np.argsort(np.nan_to_num(np.subtract(after, before)[half:]), kind="stable")
    index = half + int(order[len(order) // 2])
    frame = next(frame for place, frame in enumerate(drive) if place == index)
    panels = {"truth": frame.labels}
    for title, (result, recording) in (("frozen", frozen), (name, adapted)):
        miou = mean_iou(result.matrices[index].sum(0))
        panels[f"{title}: mIoU {miou:.1f} on this sweep"] = labels_at(recording, frame)
    sweep_figure(out / "sweep.png", frame.points, panels, class_set)
    overlay_figure(out / "overlay.png", frame.views[0], frame.projectable, panels, class_set)


def kitti_pictures(out: Path, frame: Frame, recording: Path, class_set: ClassSet) -> None:
    """Write `kitti_overlay.png` (labels) and `kitti_depth.png` of one sweep."""
    title = "KITTI, labelled by the node (the student has seen simulated streets only)"
    labels = labels_at(recording, frame)
    overlay_figure(out / "kitti_overlay.png", frame.views[0], frame.points, {title: labels}, class_set)
    depth_figure(out / "kitti_depth.png", frame.views[0], frame.points)


def labels_at(recording: Path, frame: Frame) -> np.ndarray:
    """(N,) uint8: the recorded labels of the frame's sweep. Raises ValueError if there are none."""
    for labelled in read_labelled(recording):
        if labelled.stamp == frame.stamp:
            return labelled.labels
    raise ValueError(f"{recording} has no prediction for the sweep stamped {frame.stamp}")
