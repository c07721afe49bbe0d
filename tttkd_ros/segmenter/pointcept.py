"""Published checkpoints of Pointcept as students without a teacher head, which run frozen.

The file is a pickle, which may run any code, so torch's loader for weights reads it. That loader refuses objects other
than tensors, but Pointcept saves its scheduler and a NumPy score beside the weights. Such objects load as empty ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from tttkd_ros.classes import ClassSet
from tttkd_ros.segmenter import backbones
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.tensor_files import tensor_mismatches

HEADS = ("class_head.weight", "class_head.bias")


def import_student(path: str | Path, backbone: str, class_set: ClassSet, voxel_size: float,
                   inputs: Mapping[str, float]) -> Student:
    """Make a student without a teacher head of a Pointcept checkpoint, in eval mode.

    Args:
        path: `.pth` file, as Pointcept's trainer saves it.
        backbone: name of the network. Its options are inferred from the shapes of the weights.
        class_set: the classes of the head, in its order.
        voxel_size: metres, the grid size of the training.
        inputs: feature -> what its values are multiplied by, in the order of the training.

    Raises:
        FileNotFoundError: there is no file.
        ValueError: the file is damaged, has no weights, or they do not fit the other arguments.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    tensors = _read(path)
    try:
        options, own = backbones.from_pointcept(backbone, tensors)
        config = StudentConfig(class_set=class_set, voxel_size=voxel_size, backbone=backbone, options=options,
                               inputs=inputs, head_width=0, teacher_dim=0)
        _check_head(config, own)
        state = {name if name in HEADS else f"backbone.{name}": tensor for name, tensor in own.items()}
        state["teacher_mean"] = torch.zeros(0)
        with torch.device("meta"):
            mismatches = tensor_mismatches(Student(config).state_dict(), state)
        if mismatches:
            raise ValueError(f"{'; '.join(mismatches)}; check the backbone and the inputs {list(config.inputs)}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    student = Student(config)
    student.load_state_dict(state)
    return student.eval()


def _check_head(config: StudentConfig, tensors: Mapping[str, Tensor]) -> None:
    missing = [name for name in HEADS if name not in tensors]
    if missing:
        raise ValueError(f"{' and '.join(missing)} is missing: use a checkpoint of a semantic segmentor")
    count, classes = tensors[HEADS[0]].shape[:1].numel(), config.class_set
    if count != len(classes):
        raise ValueError(f"the head has {count} classes, but class set {classes.name!r} has {len(classes)}: name the "
                         "class set that the checkpoint was trained with")


def _read(path: str | Path) -> dict[str, Tensor]:
    """Read the weights, float32, with the names that `backbones.from_pointcept` takes."""
    try:
        ignored = [_ignored(name) for name in get_unsafe_globals_in_checkpoint(path)]
        with safe_globals(ignored):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError, RuntimeError, ValueError, EOFError, LookupError, TypeError, AttributeError, UnpicklingError
    ) as error:
        # torch hides the reason behind advice about weights_only.
        reason = str(error.__context__ or error).partition("\n")[0][:200]
        raise ValueError(f"{path}: not a file of torch.save, or damaged ({reason}); fetch it again") from error
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{path}: no state_dict, expected a checkpoint of Pointcept's trainer")
    tensors = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(f"{path}: {name!r} in state_dict is a {type(tensor).__name__}, expected a named tensor")
        if tensor.layout != torch.strided or tensor.is_meta:
            raise ValueError(f"{path}: {name} is a sparse tensor or has no values, expected a dense tensor")
        name = name.removeprefix("module.").removeprefix("backbone.")
        if name.startswith("seg_head."):
            name = name.replace("seg_head", "class_head")
        tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors


class _Ignored:
    """Stands for an object of a pickle that is not needed."""

    def __init__(self, *_: object):
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _ignored(name: str) -> type:
    """Make a class that is loaded in place of the class or function of this full name."""
    module, _, own_name = name.rpartition(".")
    return type(own_name, (_Ignored,), {"__module__": module})
