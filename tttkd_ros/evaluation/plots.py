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

_BACKGROUND, _INK, _FAINT = "#11151c", "#e8ecf1", "#5b6675"
_LINES = ("#8a94a3", "#ffb347", "#4fc3f7", "#81c784", "#e57373", "#ba68c8")
_DPI = 160
AHEAD, SIDE = 36.0, 15.0  # metres shown to the front and to each side in pictures from above


def sweep_figure(path: Path, points: np.ndarray, panels: Mapping[str, np.ndarray], class_set: ClassSet) -> None:
    """Draw points (N, 3), metres, LiDAR frame, from above, the x axis up, one panel per labelling.

    panels: title -> labels (N,) uint8.
    """
    used = np.unique(np.concatenate([labels[labels < len(class_set)] for labels in panels.values()]))
    figure = Figure((5.2 * len(panels), 7.5), facecolor=_BACKGROUND)
    inside = (np.abs(points[:, 1]) < SIDE) & (points[:, 0] > -2) & (points[:, 0] < AHEAD)
    order = np.flatnonzero(inside)[np.argsort(points[inside, 2])]  # high points on top
    for place, (title, labels) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        _style(axes, title)
        axes.scatter(-points[order, 1], points[order, 0], s=7, c=class_set.palette[labels[order]] / 255, linewidths=0)
        axes.plot([0], [0], marker="^", markersize=9, color=_INK)
        axes.plot([SIDE - 11, SIDE - 1], [0, 0], color=_INK, linewidth=1.5)
        axes.text(SIDE - 6, 0.4, "10 m", color=_INK, ha="center", fontsize=8)
        axes.set(xlim=(-SIDE, SIDE), ylim=(-1.5, AHEAD), aspect="equal")
    _legend(figure, class_set, used)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.94, bottom=0.06, wspace=0.01)
    figure.savefig(path, dpi=_DPI)


def overlay_figure(
    path: Path, view: View, points: np.ndarray, panels: Mapping[str, np.ndarray], class_set: ClassSet
) -> None:
    """Draw the points (N, 3) that the camera sees on its image in class colours, one row per labelling.

    panels: title -> labels (N,) uint8.
    """
    visible, _, _ = _visible(view, points)
    used = np.unique(np.concatenate([labels[visible] for labels in panels.values()]))
    figure = _overlays(view, points, {title: class_set.palette[labels] for title, labels in panels.items()})
    _legend(figure, class_set, used[used != UNLABELLED])
    figure.savefig(path, dpi=_DPI)


def coloured_figure(path: Path, view: View, points: np.ndarray, panels: Mapping[str, np.ndarray]) -> None:
    """Draw the points (N, 3) that the camera sees on its image, one row per colouring.

    panels: title -> colours (N, 3) uint8.
    """
    _overlays(view, points, panels).savefig(path, dpi=_DPI)


def _overlays(view: View, points: np.ndarray, panels: Mapping[str, np.ndarray]) -> Figure:
    """Return a figure of the visible points on the image, with room for a legend. panels: as for `coloured_figure`."""
    visible, pixels, depth = _visible(view, points)
    order = np.argsort(-depth)  # near points on top
    height, width = view.image.shape[:2]
    row = 11.0 * height / width
    figure = Figure((11.0, (row + 0.4) * len(panels) + 0.45), facecolor=_BACKGROUND)
    size = np.clip(60.0 / depth[order], 1.5, 14.0)
    for place, (title, colours) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(len(panels), 1, place)
        _show_image(axes, title, view)
        axes.scatter(*pixels[order].T, s=size, c=colours[visible][order] / 255, linewidths=0, alpha=0.85)
    inch = 1 / figure.get_figheight()
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.35 * inch, bottom=0.45 * inch, hspace=0.36 / row)
    return figure


def depth_figure(path: Path, view: View, points: np.ndarray) -> None:
    """Draw the points (N, 3) that the camera sees on its image, coloured by depth, to check the calibration."""
    visible, pixels, depth = _visible(view, points)
    height, width = view.image.shape[:2]
    figure = Figure((11.0, 11.0 * height / width + 0.1), facecolor=_BACKGROUND)
    axes = figure.add_axes((0.01, 0.02, 0.91, 0.9))
    _show_image(axes, f"{view.name}: {visible.sum():,} points on their pixels, colour is depth", view)
    dots = axes.scatter(*pixels.T, s=2.5, c=depth, cmap="turbo_r", linewidths=0, norm=LogNorm(3, 60))
    bar = figure.colorbar(dots, cax=figure.add_axes((0.93, 0.06, 0.012, 0.82)))
    bar.minorticks_off()
    bar.set_label("metres", color=_INK, labelpad=1)
    bar.ax.tick_params(colors=_INK, labelsize=8)
    bar.set_ticks([3, 5, 10, 20, 40, 60], labels=["3", "5", "10", "20", "40", "60"])
    figure.savefig(path, dpi=_DPI)


def curve_figure(path: Path, runs: Mapping[str, Sequence[np.ndarray]], *, period: float, window: int) -> None:
    """Draw mIoU over time: for every run a thin line per drive and a bold one for their mean.

    runs: title -> curves (S,) in per cent, one per drive, each value over `window` sweeps. period: seconds per sweep.
    """
    figure = Figure((9.5, 5.2), facecolor=_BACKGROUND)
    axes = figure.add_subplot()
    axes.set_facecolor(_BACKGROUND)
    for (name, curves), colour in zip(runs.items(), _LINES, strict=False):
        length = min(map(len, curves))
        # The first values average a few sweeps only, so they would show the scene instead of the method.
        seconds = np.arange(length)[window // 2:] * period
        for curve in curves:
            axes.plot(seconds, curve[window // 2 : length], color=colour, linewidth=0.8, alpha=0.45)
        mean = np.nanmean([curve[:length] for curve in curves], axis=0)[window // 2:]
        axes.plot(seconds, mean, color=colour, linewidth=2.6, label=name)
    axes.set_xlabel("seconds of driving", color=_INK)
    axes.set_ylabel(f"mIoU over the last {window} sweeps (%)", color=_INK)
    axes.tick_params(colors=_INK)
    axes.grid(color=_FAINT, alpha=0.35, linewidth=0.6)
    axes.spines[:].set_color(_FAINT)
    axes.set_title("mIoU over time: bold lines are means over the drives", color=_INK, loc="left", fontsize=12)
    axes.legend(facecolor=_BACKGROUND, edgecolor=_FAINT, labelcolor=_INK, loc="best")
    figure.tight_layout()
    figure.savefig(path, dpi=_DPI)


def _visible(view: View, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) bool: which points the camera sees; pixels (K, 2) and depth (K,) of those."""
    projection = project(torch.tensor(points), view.camera, view.camera_from_lidar)
    visible = projection.visible.numpy()
    return visible, projection.pixels.numpy()[visible], projection.depth.numpy()[visible]


def _style(axes: Axes, title: str) -> None:
    axes.set_facecolor(_BACKGROUND)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(title, color=_INK, fontsize=12, pad=6)


def _show_image(axes: Axes, title: str, view: View) -> None:
    height, width = view.image.shape[:2]
    _style(axes, title)
    axes.imshow(view.image, extent=(0, width, height, 0), interpolation="bilinear")
    axes.set(xlim=(0, width), ylim=(height, 0))


def _legend(figure: Figure, class_set: ClassSet, used: np.ndarray) -> None:
    style = {"marker": "o", "linestyle": "", "markersize": 7}
    handles = [Line2D([], [], color=class_set.palette[label] / 255, label=class_set.names[label], **style)
               for label in used]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, labelcolor=_INK, fontsize=9,
                  handletextpad=0.1, columnspacing=1.2)
