"""Adapted weights on disk: safetensors, whose metadata tell what they were adapted from, how, and by whom."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.files import write_whole
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.weights import Weights, adaptable
from tttkd_ros.tensor_files import tensor_mismatches

_FORMAT = "tttkd_ros adapted 1"
_OTHER_MODEL = "start with the model that it was adapted from, or name another file"
_DAMAGED = "load another file, or save a new one"


@dataclass(frozen=True)
class Provenance:
    """Where adapted weights come from.

    Args:
        model: file of the checkpoint.
        node: name of the node that adapted it.
        steps: versions published since the checkpoint, most of them by accepted steps.
        saved: time, ISO 8601.
    """

    model: str
    node: str
    steps: int
    saved: str

    def __post_init__(self):
        if [type(value) for value in (self.model, self.node, self.steps, self.saved)] != [str, str, int, str]:
            raise ValueError(f"not a provenance: {self}")

    def __str__(self) -> str:
        return f"{self.steps} steps from {self.model!r} by {self.node}, saved at {self.saved}"


@dataclass(frozen=True)
class Origin:
    """Identifies the student that weights are adapted from.

    Args:
        config: of the student.
        digest: SHA-256 of all its tensors, projectors included.
        like: what adaptation changes, by name; shapes and types only.
    """

    config: StudentConfig
    digest: str
    like: Mapping[str, Tensor]

    @classmethod
    def of(cls, shipped: Student) -> Origin:
        like = {name: tensor.detach().to("meta") for name, tensor in adaptable(shipped.backbone).items()}
        return cls(shipped.config, _digest(shipped.state_dict()), MappingProxyType(like))


@dataclass(frozen=True)
class SavedState:
    """The content of a file. optimiser: its name and the settings of adaptation when the file was saved."""

    weights: Weights
    optimiser: Mapping[str, object]
    provenance: Provenance


def save_state(
    path: str | Path, origin: Origin, weights: Weights, settings: TTTConfig, provenance: Provenance
) -> None:
    """Write a file completely or not at all. An old file is replaced at the end.

    Raises:
        OSError: the file cannot be written.
        ValueError: the weights belong to another model, or are not finite.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.tensors.items()}
    _check_tensors(tensors, origin, "the weights in use", "reset, then adapt anew")
    described = {
        "config": origin.config.plain,
        "classes": origin.config.class_set.names,
        "student": origin.digest,
        "weights": _digest(tensors),
        "version": weights.version,
        "optimiser": {"name": "sgd", **asdict(settings)},  # plain: no state beyond the weights
        "provenance": asdict(provenance),
    }
    metadata = {"format": _FORMAT} | {name: json.dumps(value) for name, value in described.items()}
    write_whole(path, save(tensors, metadata))


def load_state(path: str | Path, origin: Origin) -> SavedState:
    """Read what `save_state` wrote for the same student.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read.
        ValueError: it is damaged, of another class set or backbone, or adapted from another checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no adapted weights at {path}; save some, or name another file")
    try:
        with safe_open(path, framework="pt") as file:
            described = _description(path, file.metadata() or {})
            _check_origin(path, described, origin)
            # Copied, because the library maps the file into memory and another process may overwrite it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error}); {_DAMAGED}") from error
    _check_tensors(tensors, origin, str(path), _DAMAGED)
    if described["weights"] != _digest(tensors):
        raise ValueError(f"{path}: the weights are not those that were saved; {_DAMAGED}")
    weights = Weights(described["version"], MappingProxyType(tensors))
    return SavedState(weights, MappingProxyType(described["optimiser"]), described["provenance"])


def _description(path: Path, metadata: Mapping[str, str]) -> dict:
    if metadata.get("format") != _FORMAT:
        raise ValueError(
            f"{path}: format {metadata.get('format')!r}, expected {_FORMAT!r}: these are no adapted weights; "
            "name a file that was saved as such"
        )
    kinds = {
        "config": dict, "classes": list, "student": str, "weights": str, "version": int, "optimiser": dict,
        "provenance": dict,
    }
    try:
        described = {name: json.loads(metadata[name]) for name in kinds}
        wrong = [name for name, kind in kinds.items() if type(described[name]) is not kind]
        if wrong or described["version"] < 0:
            raise ValueError(f"unexpected {', '.join(wrong) or 'version'}")
        return described | {"provenance": Provenance(**described["provenance"])}
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the description of the weights is damaged ({error}); {_DAMAGED}") from error


def _check_origin(path: Path, described: dict, origin: Origin) -> None:
    """Raise ValueError, naming each difference, for a file of another model."""
    theirs, ours = described["config"], json.loads(json.dumps(origin.config.plain))  # tuples become lists
    names, our_names = described["classes"], list(origin.config.class_set.names)
    adapted = f"{path}: adapted ({described['provenance']})"
    if (theirs.get("class_set"), names) != (ours["class_set"], our_names):
        raise ValueError(
            f"{adapted} with class set {theirs.get('class_set')!r} {names}, but this model has "
            f"{ours['class_set']!r} {our_names}; {_OTHER_MODEL}"
        )
    theirs, ours = _flat(theirs), _flat(ours)
    different = sorted(name for name in theirs.keys() | ours if theirs.get(name) != ours.get(name))
    if different:
        raise ValueError(
            f"{adapted} with another model: "
            + ", ".join(f"{name} {theirs.get(name)!r}, but here {ours.get(name)!r}" for name in different)
            + f"; {_OTHER_MODEL}"
        )
    if described["student"] != origin.digest:
        raise ValueError(
            f"{adapted} from another checkpoint: SHA-256 {described['student'][:12]}, but this model's is "
            f"{origin.digest[:12]}; {_OTHER_MODEL}"
        )


def _flat(config: dict) -> dict:
    """Name what is inside a setting like "options.levels"."""
    flat = {}
    for name, value in config.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _check_tensors(tensors: Mapping[str, Tensor], origin: Origin, where: str, remedy: str) -> None:
    wrong = tensor_mismatches(origin.like, tensors)
    if wrong:
        raise ValueError(f"{where}: the tensors are not this backbone's: {'; '.join(wrong)}; {remedy}")
    for name, tensor in tensors.items():
        if tensor.dtype != origin.like[name].dtype or not torch.isfinite(tensor).all():
            raise ValueError(f"{where}: {name} is not finite {origin.like[name].dtype}; {remedy}")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes, types and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy())
    return digest.hexdigest()
