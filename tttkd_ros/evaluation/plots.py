"""Pictures of results: sweeps from above, points on the camera image, and mIoU over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.frame import View
from tttkd_ros.geometry.projection import project

_NIGHT, _INK, _FAINT = "#11151c", "#e8ecf1", "#5b6675"
_LINES = ("#8a94a3", "#ffb347", "#4fc3f7", "#81c784", "#e57373", "#ba68c8")
_DPI = 160


def sweep_figure(
    path: Path,
    points: np.ndarray,
    panels: Mapping[str, np.ndarray],
    class_set: ClassSet,
    *,
    reach: float = 36.0,
    side: float = 15.0,
) -> None:
    """One sweep from above, a panel for each labelling: points (N, 3) metres, LiDAR frame; labels (N,) uint8.

    x ahead points up. What lies further than `reach` metres ahead, or `side` metres to a side, is left out.
    """
    used = np.unique(np.concatenate([labels[labels < len(class_set)] for labels in panels.values()]))
    figure = _figure(5.2 * len(panels), 7.5)
    inside = (np.abs(points[:, 1]) < side) & (points[:, 0] > -2) & (points[:, 0] < reach)
    order = np.flatnonzero(inside)[np.argsort(points[inside, 2])]  # what stands high is drawn last
    for place, (title, labels) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        _bare(axes, title)
        axes.scatter(-points[order, 1], points[order, 0], s=7, c=class_set.palette[labels[order]] / 255, linewidths=0)
        axes.plot([0], [0], marker="^", markersize=9, color=_INK)
        axes.plot([side - 11, side - 1], [0, 0], color=_INK, linewidth=1.5)
        axes.text(side - 6, 0.4, "10 m", color=_INK, ha="center", fontsize=8)
        axes.set(xlim=(-side, side), ylim=(-1.5, reach), aspect="equal")
    _legend(figure, class_set, used)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.94, bottom=0.06, wspace=0.01)
    figure.savefig(path, dpi=_DPI, facecolor=_NIGHT)


def overlay_figure(
    path: Path, view: View, points: np.ndarray, panels: Mapping[str, np.ndarray], class_set: ClassSet
) -> None:
    """The points that the camera sees, drawn on its image in their labels' colours, one row for each labelling."""
    seen = project(torch.tensor(points), view.camera, view.camera_from_lidar)
    visible = seen.visible.numpy()
    pixels, depth = seen.pixels.numpy()[visible], seen.depth.numpy()[visible]
    order = np.argsort(-depth)  # near points on top
    height, width = view.image.shape[:2]
    row = 11.0 * height / width
    figure = _figure(11.0, (row + 0.4) * len(panels) + 0.45)
    size = np.clip(60.0 / depth[order], 1.5, 14.0)
    used = np.unique(np.concatenate([labels[visible] for labels in panels.values()]))
    for place, (title, labels) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(len(panels), 1, place)
        _bare(axes, title)
        axes.imshow(view.image, extent=(0, width, height, 0), interpolation="bilinear")
        colours = class_set.palette[labels[visible][order]] / 255
        axes.scatter(*pixels[order].T, s=size, c=colours, linewidths=0, alpha=0.85)
        axes.set(xlim=(0, width), ylim=(height, 0))
    _legend(figure, class_set, used[used != UNLABELLED])
    inch = 1 / figure.get_figheight()
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.35 * inch, bottom=0.45 * inch, hspace=0.36 / row)
    figure.savefig(path, dpi=_DPI, facecolor=_NIGHT)


def depth_figure(path: Path, view: View, points: np.ndarray) -> None:
    """The points that the camera sees, on its image, coloured by depth: do points fall on their pixels?"""
    seen = project(torch.tensor(points), view.camera, view.camera_from_lidar)
    visible = seen.visible.numpy()
    pixels, depth = seen.pixels.numpy()[visible], seen.depth.numpy()[visible]
    height, width = view.image.shape[:2]
    row = 11.0 * height / width
    figure = _figure(11.0, row + 0.1)
    axes = figure.add_axes((0.01, 0.02, 0.91, 0.9))
    _bare(axes, f"{view.name}: {visible.sum():,} points on their pixels, colour is depth")
    axes.imshow(view.image, extent=(0, width, height, 0), interpolation="bilinear")
    dots = axes.scatter(*pixels.T, s=2.5, c=depth, cmap="turbo_r", linewidths=0, norm=LogNorm(3, 60))
    axes.set(xlim=(0, width), ylim=(height, 0))
    bar = figure.colorbar(dots, cax=figure.add_axes((0.93, 0.06, 0.012, 0.82)))
    bar.minorticks_off()
    bar.set_label("metres", color=_INK, labelpad=1)
    bar.ax.tick_params(colors=_INK, labelsize=8)
    bar.set_ticks([3, 5, 10, 20, 40, 60], labels=["3", "5", "10", "20", "40", "60"])
    figure.savefig(path, dpi=_DPI, facecolor=_NIGHT)


def curve_figure(path: Path, runs: Mapping[str, Sequence[np.ndarray]], *, period: float, window: int) -> None:
    """mIoU over time: for every run one thin line per drive and a bold one for their mean.

    runs: name -> curves (S,) in per cent, one per drive. period: seconds between sweeps. window: sweeps behind each
    value.
    """
    figure = _figure(9.5, 5.2)
    axes = figure.add_subplot()
    axes.set_facecolor(_NIGHT)
    for (name, curves), colour in zip(runs.items(), _LINES, strict=False):
        length = min(map(len, curves))
        # The first values stand on a few sweeps only: they would show the scene, not the method.
        seconds = np.arange(length)[window // 2:] * period
        for curve in curves:
            axes.plot(seconds, curve[window // 2 : length], color=colour, linewidth=0.8, alpha=0.45)
        mean = np.nanmean([curve[:length] for curve in curves], axis=0)[window // 2:]
        axes.plot(seconds, mean, color=colour, linewidth=2.6, label=f"{name}")
    axes.set_xlabel("seconds of driving", color=_INK)
    axes.set_ylabel(f"mIoU over the last {window} sweeps (%)", color=_INK)
    axes.tick_params(colors=_INK)
    axes.grid(color=_FAINT, alpha=0.35, linewidth=0.6)
    axes.spines[:].set_color(_FAINT)
    axes.set_title("Labels over time: bold is the mean of the drives", color=_INK, loc="left", fontsize=12)
    axes.legend(facecolor=_NIGHT, edgecolor=_FAINT, labelcolor=_INK, loc="best")
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI, facecolor=_NIGHT)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), facecolor=_NIGHT)


def _bare(axes: Axes, title: str) -> None:
    axes.set_facecolor(_NIGHT)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(title, color=_INK, fontsize=12, pad=6)


def _legend(figure: Figure, class_set: ClassSet, used: np.ndarray) -> None:
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=7, color=class_set.palette[label] / 255,
               label=class_set.names[label])
        for label in used
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor=_INK, fontsize=9,
                  handletextpad=0.1, columnspacing=1.2)
