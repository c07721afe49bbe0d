"""Students on disk: safetensors, with the configuration, the class names and the origin in the metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tttkd_ros.files import write_whole
from tttkd_ros.segmenter.student import Student, StudentConfig

_FORMAT = "tttkd_ros student 1"
SIMULATION = "simulation"  # a provenance's data, as `tttkd train student` writes it


def save_student(student: Student, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Write a checkpoint whole or not at all. provenance: how it was made (command, seed, data), free text."""
    metadata = {
        "format": _FORMAT,
        "config": json.dumps(asdict(student.config)),
        "classes": json.dumps(student.config.classes.names),
        "provenance": json.dumps(dict(provenance)),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    write_whole(path, save(tensors, metadata))


def load_student(
    path: str | Path, device: str = "cpu", class_set: str | None = None, teacher_dim: int | None = None
) -> Student:
    """The student of a checkpoint, in eval mode.

    Raises FileNotFoundError if there is none, and ValueError saying what differs if the file is damaged, is no student,
    or has another class set or teacher width than asked for.
    """
    path = Path(path)
    config, provenance, tensors = _read(path, tensors=True)
    if class_set is not None and config.class_set != class_set:
        raise ValueError(f"{path}: class set {config.class_set!r}, but {class_set!r} is asked for; use another model")
    if teacher_dim is not None and config.teacher_dim != teacher_dim:
        raise ValueError(
            f"{path}: trained with a teacher of {config.teacher_dim} features ({config.teacher_name or 'unnamed'}), "
            f"but the teacher given has {teacher_dim}; use the teacher that the model was trained with"
        )
    wrong = _misfits(config, tensors)
    if wrong:
        raise ValueError(f"{path}: the weights do not fit their own configuration: {'; '.join(wrong)}")
    student = Student(config)
    student.load_state_dict(tensors)
    student.simulated = provenance.get("data") == SIMULATION
    return student.to(device).eval()


def describe(path: str | Path) -> tuple[StudentConfig, dict[str, str]]:
    """A checkpoint's configuration and provenance, without reading its weights."""
    config, provenance, _ = _read(Path(path), tensors=False)
    return config, provenance


def _read(path: Path, tensors: bool) -> tuple[StudentConfig, dict[str, str], dict]:
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error}); fetch or train it again") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: format {metadata.get('format')!r}, expected {_FORMAT!r}: this is no student")
    try:
        stated, names, provenance = (json.loads(metadata[name]) for name in ("config", "classes", "provenance"))
        if not (isinstance(stated, dict) and isinstance(names, list) and isinstance(provenance, dict)):
            raise ValueError("unexpected types")
    except (KeyError, ValueError, RecursionError) as error:
        damage = f"the description of the model is damaged ({error})"
        raise ValueError(f"{path}: {damage}; fetch or train it again") from error
    known = {entry.name for entry in fields(StudentConfig)}
    if set(stated) != known:
        raise ValueError(f"{path}: the configuration differs in {sorted(set(stated) ^ known)}, made by another version")
    size = stated["teacher_input"]
    try:
        config = StudentConfig(**stated | {"teacher_input": tuple(size) if isinstance(size, list) else size})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if tuple(names) != config.classes.names:
        raise ValueError(f"{path}: classes {names}, but class set {config.class_set!r} is {config.classes.names}")
    return config, provenance, weights


def _misfits(config: StudentConfig, tensors: Mapping[str, Tensor]) -> list[str]:
    """How tensors differ from those that a student of this configuration has, told without making one of its size."""
    if max(config.levels, config.repetitions) > len(tensors):  # each of them has its own
        return [f"{len(tensors)} tensors are too few for {config.levels} levels of {config.repetitions} repetitions"]
    with torch.device("meta"):
        expected = Student(config).state_dict()
    return differences(expected, tensors) or [
        f"{name} is {tensor.dtype}, expected {expected[name].dtype}"
        for name, tensor in tensors.items() if tensor.dtype != expected[name].dtype
    ]


def differences(expected: Mapping, found: Mapping) -> list[str]:
    """At most four ways in which tensors differ from what is expected."""
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    lines += [
        f"{name} has shape {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    shown = sorted(lines)[:4]
    return shown + [f"and {len(lines) - len(shown)} more"] * (len(lines) > len(shown))
