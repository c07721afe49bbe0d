"""What the results of an evaluation depend on, as JSON values to store with them and compare."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

import torch

from tttkd_ros.datasets.parts import BagPart, Part
from tttkd_ros.digests import code_version, digest, flat
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import RunConfig, check_fit
from tttkd_ros.methods import IMAGE_HEAD, METHODS, OWN_STUDENT
from tttkd_ros.paths import shipped_path

log = logging.getLogger(__name__)

ALL_BAGS = "all"  # name of the results over all bags together


def bag_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Name each bag after its folder or file, as `unique_names` does."""
    absolute = [path.resolve() for path in paths]
    return dict(zip(unique_names([(path.name, path.parent.name) for path in absolute]), paths, strict=True))


def unique_names(names: Sequence[tuple[str, str]]) -> list[str]:
    """Names of drives, with that of the folder they are in if the name is taken. Raises ValueError if both are.

    names: of each drive, and of its folder.
    """
    counts = Counter([ALL_BAGS, *(name for name, _ in names)])
    unique = [name if counts[name] == 1 else f"{folder}_{name}" for name, folder in names]
    if len(set(unique)) < len(unique):
        twice = next(name for name in unique if unique.count(name) > 1)
        raise ValueError(f"two drives are called {twice}: give each once, or rename one")
    return unique


def evaluation_inputs(
    parts: Mapping[str, Part], truths: Mapping[str, Path | None], models: Models, runs: Sequence[RunConfig],
    settings: Mapping[str, object],
) -> dict:
    """What the results of `tttkd evaluate` depend on, as JSON values.

    parts, truths: name of a drive -> its part; folder of its .label files. The runs determine which models count. They
    are no inputs themselves, because later calls may add runs. settings: shared by all runs. The teacher and its engine
    are None if no run can use it; such runs are left out.
    """
    found = {
        "code": code_version(),
        "libraries": libraries(),
        "threads": torch.get_num_threads(),
        "device": models.device,
        "bags": list(parts),
        "files": {name: _files(part) for name, part in parts.items()},
        "labels": {name: None if path is None else digest(path) for name, path in truths.items()},
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        "model": digest(models.paths["model"]),
    }
    found |= {run.method: digest(models.paths[run.method]) for run in runs if run.method in OWN_STUDENT}
    with_images = {run.method: run for run in runs if run.uses_images}
    problems = []
    for run in with_images.values():
        try:
            check_fit(run, models.student, models.teacher)
        except (ValueError, OSError) as error:
            problems.append(error)
    if len(problems) < len(with_images):
        source = models.paths["teacher"]
        found |= {"engine": models.engine, "teacher": digest(source) if source.exists() else str(source)}
    elif problems:
        log.warning("no method that needs the teacher can be run: %s", problems[0])
        found |= {"engine": None, "teacher": None}
    if any(METHODS[name].uses_image_head for name in with_images):
        found["image_head"] = digest(shipped_path(IMAGE_HEAD))
    return found


def _files(part: Part) -> dict[str, str]:
    """What a part depends on, by name. A bag's class set is the student's, so its files suffice."""
    return part.inputs["bag"] if isinstance(part, BagPart) else flat(part.inputs)


def libraries() -> dict[str, str]:
    """Name -> version of the installed libraries that compute."""
    names = {"numpy", "torch", "openvino", "torch-tensorrt"}
    found = ((part.metadata["Name"], part.version) for part in distributions())
    return {name: version for name, version in found if name in names or (name or "").startswith("spconv")}
