"""Students on disk: safetensors, with configuration, class set and provenance in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tttkd_ros.classes import ClassSet, built_in_class_sets, load_class_set
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.tensor_files import read_format, read_tensors, tensor_mismatches, write_tensors

_FORMAT = "tttkd_ros student 2"
PRETRAINED_FORMAT = "tttkd_ros pretrained backbone 1"  # see `tttkd_ros.segmenter.pretrained`
SIMULATION = "simulation"  # a provenance's data, as `tttkd train student` writes it


def save_student(student: Student, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Write a checkpoint atomically. provenance: how the student was made (command, seed, data)."""
    write_tensors(path, _FORMAT, student.state_dict(), config=json.dumps(student.config.plain),
                  classes=json.dumps(student.config.class_set.content), provenance=json.dumps(dict(provenance)))


def load_student(path: str | Path, device: str = "cpu", class_set: ClassSet | None = None) -> Student:
    """Load the student of a checkpoint, in eval mode. class_set: the required one; None accepts any.

    Raises FileNotFoundError, or ValueError if the file is damaged, holds no student, or has other classes.
    """
    config, provenance, tensors = _read(path, load=True)
    if class_set is not None and config.class_set.names != class_set.names:
        raise ValueError(f"{path}: {config.class_set}, but {class_set} is asked for; use another model")
    if mismatches := _mismatches(config, tensors):
        raise ValueError(f"{path}: the weights do not fit their own configuration: {'; '.join(mismatches)}")
    student = Student(config)
    student.load_state_dict(tensors)
    student.simulated = provenance.get("data") == SIMULATION
    return student.to(device).eval()


def describe(path: str | Path) -> tuple[StudentConfig, dict[str, str]]:
    """Read a checkpoint's configuration and provenance without its weights. Raises as `load_student`."""
    config, provenance, _ = _read(path, load=False)
    return config, provenance


def _read(path: str | Path, *, load: bool) -> tuple[StudentConfig, dict[str, str], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no model at {path}")
    if read_format(path) == PRETRAINED_FORMAT:
        raise ValueError(f"{path}: a pretrained backbone, which has no classes: make a student of it with `tttkd train "
                         f"student --init {path}`")
    metadata, tensors = read_tensors(path, _FORMAT, load=load)
    try:
        settings, classes, provenance = (json.loads(metadata[name]) for name in ("config", "classes", "provenance"))
        size = settings["teacher_input"]  # JSON has no tuples
        config = StudentConfig(**settings | {"teacher_input": tuple(size) if isinstance(size, list) else size,
                                             "class_set": _class_set(settings["class_set"], classes)})
        return config, dict(provenance), tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        damage = f"the description of the model is damaged or of another version ({error})"
        raise ValueError(f"{path}: {damage}; fetch or train it again") from error


def _class_set(name: str, classes: object) -> ClassSet:
    """classes: content of the set. Older checkpoints have the names of its classes; their sets are built in."""
    if not isinstance(classes, list):
        class_set = ClassSet.parse(classes)
    elif name in built_in_class_sets():
        class_set = load_class_set(name)
    else:
        raise ValueError(f"class_set {name!r} is unknown, expected one of {', '.join(built_in_class_sets())}")
    if name != class_set.name or isinstance(classes, list) and classes != list(class_set.names):
        raise ValueError(f"class_set {name!r} with the classes {classes}, but it is {class_set}")
    return class_set


def _mismatches(config: StudentConfig, tensors: Mapping[str, Tensor]) -> list[str]:
    """Compare tensors with those of a student of this configuration, without memory for such a student."""
    with torch.device("meta"):
        return tensor_mismatches(Student(config).state_dict(), tensors)
