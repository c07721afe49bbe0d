"""What the figures of an evaluation depend on, in a form that can be kept beside them and compared."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from tttkd_ros.digests import code, digest, edges
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import ONLINE_KD, SOURCE_ONLY, Method, check_fit
from tttkd_ros.methods import IMAGE_HEAD
from tttkd_ros.paths import shipped_path

log = logging.getLogger(__name__)

ALL_BAGS = "all"  # what figures over all bags together are called
# What decides figures; a change of how they are shown does not make them others.
CODE = ("adaptation", "bags", "datasets", "geometry", "messages", "segmenter", "teacher", "classes.py", "diagnosis.py",
        "frame.py", "pipeline.py", "evaluation/drives.py", "evaluation/metrics.py", "evaluation/replay.py",
        "evaluation/result.py", "evaluation/tally.py")


def bag_names(paths: Sequence[Path]) -> dict[str, Path]:
    """What to call each bag: as its folder or file, with the folder above it where several are called the same, or one
    as all of them together."""
    if not paths:
        raise ValueError("no bag given, expected at least one")
    whole = [path.resolve() for path in paths]
    counts = Counter([ALL_BAGS, *(path.name for path in whole)])
    names = [path.name if counts[path.name] == 1 else f"{path.parent.name}_{path.name}" for path in whole]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two bags are called {twice}: give each once, or rename one")
    return dict(zip(names, paths, strict=True))


def evaluation_inputs(
    bags: Mapping[str, Path],
    truths: Mapping[str, Path | None],
    models: Models,
    methods: Sequence[Method],
    settings: Mapping[str, object],
) -> dict:
    """JSON values. truths: each bag's folder of .label files. methods: whose models count, but not they themselves: of
    those there may be more another time. settings: those that all runs share. A teacher that cannot be loaded, or that
    fits none of the methods, and its engine are None: the methods that need it are left out."""
    import torch

    found = {
        "code": code(CODE),
        "libraries": libraries(),
        "threads": torch.get_num_threads(),
        "device": models.device,
        "bags": list(bags),
        "files": {name: edges(path) for name, path in bags.items()},
        "labels": {name: None if path is None else digest(path) for name, path in truths.items()},
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        "model": digest(models.paths["model"]),
    }
    if any(method.name == SOURCE_ONLY for method in methods):
        found["source_only"] = digest(models.paths["source_only"])
    if looking := {method.name: method for method in methods if method.uses_images}:
        found |= _teacher(models, list(looking.values()))
    if any(method.uses_images and method.name != ONLINE_KD for method in methods):
        found["image_head"] = digest(shipped_path(IMAGE_HEAD))
    return found


def _teacher(models: Models, methods: Sequence[Method]) -> dict[str, str | None]:
    problems = []
    for method in methods:
        try:
            check_fit(method, models.student, models.teacher)
        except (ValueError, OSError) as error:
            problems.append(error)
    if len(problems) == len(methods):
        log.warning("no method that needs the teacher can be run: %s", problems[0])
        return {"engine": None, "teacher": None}
    source = models.paths["teacher"]
    return {"engine": models.engine, "teacher": digest(source) if source.exists() else str(source)}


def libraries() -> dict[str, str]:
    """Name -> version of those that compute, where they are installed."""
    names = {"numpy", "torch", "openvino", "torch-tensorrt"}
    found = ((part.metadata["Name"], part.version) for part in distributions())
    return {name: version for name, version in found if name in names or (name or "").startswith("spconv")}
