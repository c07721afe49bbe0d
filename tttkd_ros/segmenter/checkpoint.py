"""Students on disk: safetensors, with configuration, class names and provenance in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.tensor_files import read_tensors, tensor_mismatches, write_tensors

_FORMAT = "tttkd_ros student 2"
SIMULATION = "simulation"  # a provenance's data, as `tttkd train student` writes it


def save_student(student: Student, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Write a checkpoint atomically. provenance: how the student was made (command, seed, data)."""
    write_tensors(path, _FORMAT, student.state_dict(), config=json.dumps(asdict(student.config)),
                  classes=json.dumps(student.config.classes.names), provenance=json.dumps(dict(provenance)))


def load_student(path: str | Path, device: str = "cpu", class_set: str | None = None) -> Student:
    """Load the student of a checkpoint, in eval mode. class_set: name of the required class set; None accepts any.

    Raises FileNotFoundError, or ValueError if the file is damaged, holds no student, or has another class set.
    """
    config, provenance, tensors = _read(path, load=True)
    if class_set is not None and config.class_set != class_set:
        raise ValueError(f"{path}: class set {config.class_set!r}, but {class_set!r} is asked for; use another model")
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
    metadata, tensors = read_tensors(path, _FORMAT, load=load)
    try:
        settings, names, provenance = (json.loads(metadata[name]) for name in ("config", "classes", "provenance"))
        size = settings["teacher_input"]  # JSON has no tuples
        config = StudentConfig(**settings | {"teacher_input": tuple(size) if isinstance(size, list) else size})
        if names != list(config.classes.names):
            raise ValueError(f"classes {names}, but class set {config.class_set!r} is {config.classes.names}")
        return config, dict(provenance), tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        damage = f"the description of the model is damaged or of another version ({error})"
        raise ValueError(f"{path}: {damage}; fetch or train it again") from error


def _mismatches(config: StudentConfig, tensors: Mapping[str, Tensor]) -> list[str]:
    """Compare tensors with those of a student of this configuration, without memory for such a student."""
    with torch.device("meta"):
        return tensor_mismatches(Student(config).state_dict(), tensors)
