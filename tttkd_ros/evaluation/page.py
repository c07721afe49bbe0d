"""The report page: one HTML file with tables, charts and pictures, without scripts or external files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined

from tttkd_ros.classes import ClassSet
from tttkd_ros.evaluation import charts
from tttkd_ros.evaluation.drives import Drive
from tttkd_ros.evaluation.feature_pictures import DrawFeatures, feature_drawer
from tttkd_ros.evaluation.gallery import best_adapted, gallery
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.report import notes
from tttkd_ros.evaluation.result import Result, frozen_run
from tttkd_ros.evaluation.runs import BagResults, all_bags
from tttkd_ros.files import write_whole
from tttkd_ros.methods import OWN_STUDENT
from tttkd_ros.segmenter.checkpoint import describe

NAME = "report.html"
TEMPLATE = "page.html.jinja"
HASH = 12  # digits shown of a digest
REASONS = 3  # most frequent reasons shown for rejected steps


class Other(NamedTuple):
    """Another evaluation's results on a bag. files: name -> digest, as in its inputs. mious: run -> mIoU."""

    files: Mapping[str, str]
    sweeps: int
    mious: Mapping[str, float]


Others = Sequence[Other]


def write_page(
    folder: Path, bags: Sequence[BagResults], drives: Mapping[str, Drive], models: Models,
    inputs: Mapping[str, object], others: Mapping[str, Others],
) -> None:
    """Write report.html to `folder`; arguments as for `page`."""
    content = page(bags, drives, models.student.config.class_set, inputs=inputs,
                   provenance=model_provenance(models, inputs), others=others, name=folder.resolve().name,
                   draw_features=feature_drawer(models) if any(bag.cameras for bag in bags) else None)
    write_whole(folder / NAME, content.encode())


def page(
    bags: Sequence[BagResults], drives: Mapping[str, Drive], class_set: ClassSet, *, inputs: Mapping[str, object],
    provenance: Mapping[str, Mapping[str, object]], others: Mapping[str, Others], name: str,
    draw_features: DrawFeatures | None = None,
) -> str:
    """Render the page of the evaluation `name` as HTML. drives: name of a bag -> its drive, for pictures.
    draw_features: see `gallery`.

    The other arguments come from `evaluation_inputs`, `model_provenance` and `read_evaluations`.
    """
    read = [bag for bag in bags if bag.results]
    together = [all_bags(bags)] if len(read) > 1 else []
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    template = environment.from_string(files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8"))
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in class_set.colours]
    return template.render(
        sections=[
            _section(bag, drives.get(bag.bag), class_set, name, inputs["files"].get(bag.bag), others,
                     draw_features)
            for bag in (*read, *together) if bag.results
        ],
        notes=[note for bag in bags for note in notes(bag)] + [
            note for bag in read for note in _not_compared(bag, inputs["files"][bag.bag], others)
        ],
        title=", ".join(bag.bag for bag in bags), classes=list(zip(class_set.names, colours, strict=True)),
        inputs=inputs, provenance=provenance, hash=HASH, reasons=REASONS,
    )


def model_provenance(models: Models, inputs: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Model -> what is known about it, for the models used in the evaluation."""
    found: dict[str, dict[str, object]] = {}
    for role, name in (("student", "model"), *((f"{method} student", method) for method in OWN_STUDENT)):
        if name in inputs:
            config, made = describe(models.paths[name])
            found[role] = {"SHA-256": inputs[name], "class set": config.class_set.name,
                           "voxels": f"{config.voxel_size} m",
                           "trained with": config.teacher_name or "an unnamed teacher"} | made
    if inputs.get("teacher") is not None:
        name = models.paths["teacher"].name
        found["teacher"] = {"SHA-256": inputs["teacher"], "name": name, "engine": inputs["engine"]}
    return found


def read_evaluations(folders: Sequence[Path], out: Path | None) -> dict[str, Others]:
    """Read the mIoU of other evaluations' runs, by the names of their folders, to show on the page in `out`.

    Raises ValueError if `out` is None, two evaluations have one name, or a folder has no results.
    """
    if folders and out is None:
        raise ValueError("--compare shows other evaluations on the report page: give its folder with --out")
    found = {}
    for folder in folders:
        name = folder.resolve().name
        if name in found or name == out.resolve().name:
            raise ValueError(f"two evaluations are called {name}: give each once, or rename a folder")
        found[name] = _others(folder)
    return found


def _others(folder: Path) -> Others:
    try:
        results, inputs = (json.loads((folder / name).read_bytes()) for name in ("results.json", "inputs.json"))
        return [
            Other(dict(inputs["files"][bag["bag"]]), int(bag["sweeps"]), {
                str(run["run"]): float(run["miou"]) for run in bag["results"] if run["miou"] is not None
            })
            for bag in results["bags"]
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder} holds no results of an evaluation ({error!r}): give the --out folder of an "
                         "earlier one") from error


def _same_bag(files: Mapping[str, str] | None, others: Others) -> Other | None:
    """The evaluation of the same files, whatever the bag's name; None for all bags together."""
    return next((other for other in others if other.files == files), None)


def _not_compared(bag: BagResults, files: Mapping[str, str], others: Mapping[str, Others]) -> Iterator[str]:
    """Explain which evaluations are not compared with this one on a bag."""
    for name, found in others.items():
        other = _same_bag(files, found)
        if other is None:
            yield f"{name} has not evaluated the files of {bag.bag}: it is not compared there"
        elif other.sweeps != bag.sweeps:
            yield f"{name} has evaluated {other.sweeps} sweeps of {bag.bag}, not {bag.sweeps}: it is not compared there"


def _section(bag: BagResults, drive: Drive | None, class_set: ClassSet, name: str, files, others,
             draw_features: DrawFeatures | None) -> dict:
    """drive, files: None for all bags together."""
    results, one_drive, frozen = bag.results, drive is not None, frozen_run(bag.results)
    mious = {name: {result.title: result.miou() for result in results if result.sweeps_with_truth}}
    for other, found in others.items():
        same = _same_bag(files, found)
        if same is not None and same.sweeps == bag.sweeps:
            mious[other] = same.mious
    over_time = [*charts.over_time(results), *charts.losses_over_time(results)] if one_drive else []
    return {
        "bag": bag, "drive": one_drive, "best": best_adapted(results), "frozen": frozen,
        "rows": [_row(result, frozen) for result in results],
        "charts": {
            "Settings": [*charts.over_settings(results), *charts.over_evaluations(mious)],
            "Over time": over_time,
            "Confidence": list(charts.reliability(results)),
        },
        "speed": list(charts.speed_over_stride(results)),
        "pictures": list(gallery(drive, results, class_set, draw_features)) if one_drive else [],
    }


def _row(result: Result, frozen: Result | None) -> dict:
    summary = result.summary()
    gain = result.miou() - frozen.miou() if frozen is not None and frozen is not result else np.nan
    compared = summary["iou"] if frozen is None else frozen.summary()["iou"]
    matrix = result.matrix()
    truth = matrix.sum(1, keepdims=True)
    return {
        "result": result, "summary": summary, "gain": gain,
        "worst": result.worst_class(frozen),
        "changes": {key: (value or 0) - (compared[key] or 0) for key, value in summary["iou"].items()},
        "rejected": Counter(result.rejections).most_common(),
        "timing": result.timing.summary(),
        "shares": 100.0 * matrix / np.maximum(truth, 1), "truth": truth[:, 0],
    }


def _number(value: float | None, digits: int = 1, sign: bool = False) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:{'+' if sign else ''}.{digits}f}"
