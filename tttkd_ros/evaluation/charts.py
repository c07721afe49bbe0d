"""SVG charts for the report page. Line colours suit a light and a dark page; the rest has the page's text colour."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from tttkd_ros.evaluation.metrics import calibration_error
from tttkd_ros.evaluation.result import WINDOW, Result, title
from tttkd_ros.methods import FROZEN, METHODS, OWN_STUDENT

# Drawn in every chart, to compare with: name -> dashes
BASELINES = {FROZEN: "--"} | dict(zip(OWN_STUDENT, (":", "-.", (0, (1, 4))), strict=True))
SETTINGS = {"stride": "stride", "learning_rate": "learning rate", "steps": "steps", "images": "images per sweep"}
MIN_BIN_SHARE = 1e-3  # minimum share of the points that a confidence bin needs to be drawn

_GREY = "#8a94a3"
_COLOURS = ("#3b82f6", "#f08c1a", "#2fa35f", "#e0524d", "#9a5fd0", "#12a5b0", "#d2559d", "#a98019", "#6b7fd7")
_MARKERS = "os^Dvp*"
_INK = "#010203"  # replaced by the page's text colour in the SVG
_STYLE = {
    "font.size": 9, "text.parse_math": False, "svg.fonttype": "none", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.18, "grid.linewidth": 0.7, "legend.frameon": False,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color"), _INK)


class Chart(NamedTuple):
    """svg: markup to include in a page as it is."""

    title: str
    svg: str


class Line(NamedTuple):
    """A line over x and y (N,). With one y and no x it is a horizontal line."""

    label: str
    y: Sequence[float]
    x: Sequence[float] | None = None
    colour: str = _GREY
    marker: str = ""
    dashes: str | tuple = "-"  # matplotlib's linestyle


def over_settings(results: Sequence[Result]) -> Iterator[Chart]:
    """mIoU over each setting that has several values."""
    for key, label in SETTINGS.items():
        yield from _over(key, results, f"mIoU over {label}", "mIoU (%)", Result.miou)


def speed_over_stride(results: Sequence[Result]) -> Iterator[Chart]:
    """Measured predictions per second over stride."""

    def per_second(result: Result) -> float:
        value = result.timing.summary()["predictions_per_second"]
        return np.nan if value is None else value

    yield from _over("stride", results, "Predictions per second over stride", "predictions per second", per_second)


def over_evaluations(mious: Mapping[str, Mapping[str, float]]) -> Iterator[Chart]:
    """mIoU of each run in several evaluations. mious: evaluation -> run -> mIoU in per cent."""
    runs = dict.fromkeys(run for found in mious.values() for run in found)
    lines = []
    for run, colour in zip(runs, cycle(_COLOURS), strict=False):
        values = {place: found[run] for place, found in enumerate(mious.values()) if run in found}
        if len(values) > 1:
            colour = _GREY if run in BASELINES else colour
            lines.append(Line(run, [*values.values()], [*values], colour, "o", ":"))
    if lines:
        yield _chart("mIoU over evaluations", lines, "", "mIoU (%)", ticks=dict(enumerate(mious)))


def over_time(results: Sequence[Result]) -> Iterator[Chart]:
    """mIoU of the last sweeps on one drive: a chart per method, with the baselines."""
    known = [result for result in results if result.sweeps_with_truth]
    if not known:
        return
    window = max(1, min(WINDOW, known[0].sweeps // 4))
    start = min(result.stamps[0] for result in known)
    # The first values average a few sweeps only, so they would show the scene instead of the method.
    drawn = slice(window // 2, None)
    curves = {result.title: ((result.stamps[drawn] - start) / 1e9, result.curve(window)[drawn]) for result in known}
    values = np.concatenate([y for _, y in curves.values()])
    limits = (np.nanmin(values) - 2, np.nanmax(values) + 2) if np.isfinite(values).any() else None
    for name, lines in _by_method(known, lambda result: curves[result.title]):
        yield _chart(f"mIoU over time: {name}", lines, "seconds", f"mIoU of the last {window} sweeps (%)",
                     limits=limits)


def losses_over_time(results: Sequence[Result]) -> Iterator[Chart]:
    """Loss of the accepted steps on one drive: a chart per method, because losses of methods are not comparable."""

    def values(result: Result) -> tuple[np.ndarray, np.ndarray]:
        stamps, losses = zip(*result.losses, strict=True)
        return (np.array(stamps) - result.stamps[0]) / 1e9, np.array(losses)

    for name, lines in _by_method([result for result in results if result.losses], values):
        yield _chart(f"Adaptation loss: {name}", lines, "seconds", "loss of a step")


def reliability(results: Sequence[Result]) -> Iterator[Chart]:
    """Share of correct predictions over confidence, bin by bin. The labels have the calibration error."""

    def values(result: Result) -> tuple[np.ndarray, np.ndarray]:
        enough = result.calibration[:, 0] >= MIN_BIN_SHARE * result.calibration[:, 0].sum()
        points, confidence, correct = result.calibration[enough].T
        return 100 * confidence / points, 100 * correct / points

    ideal = Line("calibrated", (0, 100), (0, 100), _INK, dashes=":")
    known = [result for result in results if result.calibration[:, 0].any()]
    for name, lines in _by_method(known, values, lambda result: f" ({calibration_error(result.calibration):.1f})", "."):
        yield _chart(f"Reliability: {name}", [ideal, *lines], "confidence (%)", "correct predictions (%)",
                     limits=(0, 100))


def _over(key, results, heading, y, value) -> Iterator[Chart]:
    """A chart of `value(result)` over the setting `key`, with a line for runs that differ in nothing else."""
    groups: dict[str, dict[float, float]] = {}
    names = {}
    for result in results:
        if (at := result.settings.get(key)) is not None and np.isfinite(value(result)):
            label = title(result.name, {name: setting for name, setting in result.settings.items() if name != key})
            groups.setdefault(label, {})[at] = value(result)
            names[label] = result.name
    lines, order = [], list(METHODS)[::-1]
    for label, values in groups.items():
        if len(values) > 1:
            name = names[label]
            earlier = sum(line.label.startswith(name) for line in lines)
            colour = _COLOURS[order.index(name)] if name in order else _INK
            x = sorted(values)
            lines.append(Line(label, [values[at] for at in x], x, colour, _MARKERS[earlier % len(_MARKERS)]))
    if lines:
        ticks = {at: f"{at:g}" for line in lines for at in line.x}
        baselines = [Line(result.name, [value(result)], dashes=BASELINES[result.name])
                     for result in results if result.name in BASELINES and np.isfinite(value(result))]
        yield _chart(heading, [*baselines, *lines], SETTINGS[key], y, ticks=ticks, log=True)


def _by_method(results, values, remark=lambda result: "", marker="") -> Iterator[tuple[str, list[Line]]]:
    """Lines of `values(result)` -> x, y for each method's runs, after those of the baselines."""

    def line(result: Result, label: str, colour: str, dashes: str | tuple = "-") -> Line:
        x, y = values(result)
        return Line(label + remark(result), y, x, colour, marker, dashes)

    baselines, methods = [], {}
    for result in results:
        if result.name in BASELINES:
            baselines.append(line(result, result.name, _GREY, BASELINES[result.name]))
        else:
            methods.setdefault(result.name, []).append(result)
    for name, runs in methods.items():
        labels = [run.title.removeprefix(name).lstrip(", ") or name for run in runs]
        yield name, baselines + [line(*each) for each in zip(runs, labels, cycle(_COLOURS), strict=False)]
    if baselines and not methods:
        yield FROZEN, baselines


def _chart(heading, lines: Sequence[Line], x, y, *, ticks=None, log=False, limits=None) -> Chart:
    """x, y: titles of the axes. ticks: place -> label on the x axis. limits: of the y axis."""
    # The salt makes ids of different charts on a page differ, and equal charts equal.
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": repr((heading, [(line.label, *line.y) for line in lines]))}):
        figure = Figure(figsize=(4.1, 2.6 + 0.17 * -(-len(lines) // 2)), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        if log:
            axes.set_xscale("log")
        if ticks is not None:
            axes.set_xticks(list(ticks), labels=list(ticks.values()))
            axes.minorticks_off()
        for line in lines:
            style = {"label": line.label, "color": line.colour, "linestyle": line.dashes, "linewidth": 1.6}
            if line.x is None:
                axes.axhline(line.y[0], **style)
            else:
                axes.plot(line.x, line.y, marker="o" if len(line.x) == 1 else line.marker, markersize=5, **style)
        axes.set(xlabel=x, ylabel=y)
        if limits is not None:
            axes.set_ylim(*limits)
        figure.legend(loc="outside lower center", ncols=2, fontsize=8, handlelength=2.2)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return Chart(heading, _inline(file.getvalue(), heading))


def _inline(svg: str, heading: str) -> str:
    """Remove the file header and ids that nothing refers to, which could collide on a page."""
    svg = svg[svg.index("<svg"):].replace(_INK, "currentColor")
    referred = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in referred else "", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(heading)}" ', 1)
