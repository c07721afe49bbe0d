"""What the figures of an evaluation depend on, in a form that can be kept beside them and compared."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

import tttkd_ros
from tttkd_ros.adaptation.methods import IMAGE_HEAD
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import ONLINE_KD, SOURCE_ONLY, Method
from tttkd_ros.paths import share

log = logging.getLogger(__name__)

ALL_BAGS = "all"  # what figures over all bags together are called
EDGE = 1 << 20  # bytes at each end of a file that stand for a large one; an .mcap's index, which counts all, is there
# What decides figures; a change of how they are shown does not make them others.
CODE = ("adaptation", "bags", "datasets", "geometry", "messages", "segmenter", "teacher", "classes.py", "frame.py",
        "pipeline.py", "evaluation/drives.py", "evaluation/metrics.py", "evaluation/replay.py", "evaluation/result.py",
        "evaluation/tally.py")


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
    those there may be more another time. settings: those that all runs share. A teacher that cannot be loaded, and its
    engine, are None: the methods that need it are left out."""
    import torch

    found = {
        "code": code(),
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
    if any(method.looks for method in methods):
        found |= _teacher(models)
    if any(method.looks and method.name != ONLINE_KD for method in methods):
        found["image_head"] = digest(share(IMAGE_HEAD))
    return found


def _teacher(models: Models) -> dict[str, str | None]:
    try:
        _ = models.teacher
    except (ValueError, OSError) as error:
        log.warning("the teacher cannot be loaded, and methods that need it cannot be run: %s", error)
        return {"engine": None, "teacher": None}
    source = models.paths["teacher"]
    return {"engine": models.engine, "teacher": digest(source) if source.exists() else str(source)}


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files below a folder, with their names."""
    found = hashlib.sha256()
    for name, file in _files(path):
        found.update(f"{name} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            while part := content.read(EDGE):
                found.update(part)
    return found.hexdigest()


def edges(path: Path) -> dict[str, str]:
    """Name -> SHA-256 of the size and of both ends, of a file or of each file below a folder."""
    found = {}
    for name, file in _files(path):
        size = file.stat().st_size
        with file.open("rb") as content:
            first = content.read(EDGE)
            content.seek(max(size - EDGE, 0))
            found[name] = hashlib.sha256(str(size).encode() + first + content.read(EDGE)).hexdigest()
    return found


def code(names: Sequence[str] = CODE) -> str:
    """SHA-256 of the project's modules that decide figures."""
    root = Path(tttkd_ros.__file__).parent
    found = hashlib.sha256()
    for name in names:
        for file in sorted((root / name).rglob("*.py")) if (root / name).is_dir() else [root / name]:
            found.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
    return found.hexdigest()


def libraries() -> dict[str, str]:
    """Name -> version of those that compute, where they are installed."""
    names = {"numpy", "torch", "openvino", "torch-tensorrt"}
    found = ((part.metadata["Name"], part.version) for part in distributions())
    return {name: version for name, version in found if name in names or (name or "").startswith("spconv")}


def differences(then: Mapping, now: Mapping) -> list[str]:
    """What both tell of and tell differently, as "name: this then, that now"."""
    before, after = dict(_flat(then)), dict(_flat(now))
    return [f"{name}: {_short(before[name])} then, {_short(after[name])} now" for name in before
            if name in after and before[name] != after[name]]


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    return [(file.relative_to(path).as_posix(), file) for file in sorted(path.rglob("*")) if file.is_file()]


def _flat(values: object, name: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _flat(value, f"{name}.{key}" if name else key)
    else:
        yield name, values


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:16]}..."
