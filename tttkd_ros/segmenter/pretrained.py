"""Pretrained backbones on disk: safetensors without heads, that the training of a student starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tttkd_ros.segmenter.checkpoint import PRETRAINED_FORMAT, describe, load_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.tensor_files import read_format, read_tensors, tensor_mismatches, write_tensors

_SETTINGS = ("backbone", "options", "inputs", "voxel_size")  # what the weights of a backbone depend on


def save_backbone(student: Student, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Write the backbone of a student atomically, without its heads. provenance: see `save_student`."""
    settings = {name: student.config.plain[name] for name in _SETTINGS}
    write_tensors(path, PRETRAINED_FORMAT, student.backbone.state_dict(), config=json.dumps(settings),
                  provenance=json.dumps(dict(provenance)))


def load_backbone(path: str | Path, config: StudentConfig) -> dict[str, Tensor]:
    """Load the tensors of a pretrained backbone, or of a student's, for a student of this configuration. They are all
    of its backbone's but those of an injection, which belongs to the images.

    Raises FileNotFoundError, or ValueError if the file is damaged, is neither of these, or has another backbone, other
    options, inputs or another voxel size.
    """
    found, _ = _describe(path)
    for name in _SETTINGS:
        ours, theirs = (_comparable(getattr(each, name)) for each in (config, found))
        if ours != theirs:
            raise ValueError(f"{path}: {name} is {_text(theirs)}, but the student's is {_text(ours)}: give the "
                             "settings of the file, or name another one")
    pretrained = read_format(path) == PRETRAINED_FORMAT
    tensors = read_tensors(path, PRETRAINED_FORMAT)[1] if pretrained else load_student(path).backbone.state_dict()
    with torch.device("meta"):
        expected = _without_injection(Student(config).backbone.state_dict())
    tensors = _without_injection(tensors)
    if mismatches := tensor_mismatches(expected, tensors):
        raise ValueError(f"{path}: the weights do not fit their own configuration: {'; '.join(mismatches)}")
    return tensors


def backbone_provenance(path: str | Path) -> dict[str, str]:
    """Read how the pretrained backbone, or the student, of a file was made. Raises as `load_backbone`."""
    return _describe(path)[1]


def _describe(path: str | Path) -> tuple[StudentConfig, dict[str, str]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}: name one of `tttkd train distill`, or a student")
    try:
        if read_format(path) != PRETRAINED_FORMAT:
            return describe(path)
    except ValueError as error:
        raise ValueError(f"{error} (expected a file of `tttkd train distill`, or a student)") from error
    metadata, _ = read_tensors(path, PRETRAINED_FORMAT, load=False)
    try:
        return StudentConfig(**json.loads(metadata["config"])), dict(json.loads(metadata["provenance"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the description of the backbone is damaged or of another version ({error}); train "
                         "it again") from error


def _without_injection(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("injection.")}


def _comparable(value: object) -> object:
    """Inputs have an order: that of the columns that the backbone takes."""
    return list(value.items()) if isinstance(value, Mapping) else value


def _text(value: object) -> str:
    return " ".join(f"{name}={each}" for name, each in value) or "none" if isinstance(value, list) else str(value)
