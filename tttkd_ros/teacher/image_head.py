"""A class for every patch: a linear layer on the frozen teacher's features, for methods that need a 2D class branch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tttkd_ros.classes import CLASS_SETS
from tttkd_ros.files import write_whole

_FORMAT = "tttkd_ros image head 1"


class ImageHead(nn.Module):
    """BatchNorm and a linear layer: the smallest 2D branch that has the statistics and the scales that MM-TTA adapts.

    class_set: names the classes. dim: width of the teacher's features. teacher_name: whose features it learnt from.
    """

    def __init__(self, class_set: str, dim: int, teacher_name: str = ""):
        super().__init__()
        self.class_set, self.dim, self.teacher_name = class_set, dim, teacher_name
        self.norm = nn.BatchNorm1d(dim)
        self.linear = nn.Linear(dim, len(CLASS_SETS[class_set]))

    def forward(self, features: Tensor) -> Tensor:
        """(M, dim) the teacher's features as they are -> (M, classes) logits."""
        return self.linear(self.norm(features))


def save_image_head(head: ImageHead, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Write it whole or not at all. provenance: how it was made (command, seed, data), free text."""
    metadata = {
        "format": _FORMAT,
        "classes": json.dumps(CLASS_SETS[head.class_set].names),
        "dim": str(head.dim),
        "teacher": head.teacher_name,
        "provenance": json.dumps(dict(provenance)),
    }
    write_whole(path, save({name: tensor.cpu().contiguous() for name, tensor in head.state_dict().items()}, metadata))


def load_image_head(path: str | Path, *, class_set: str, dim: int) -> ImageHead:
    """The head of a file, in eval mode, for students of this class set and teachers of this width.

    Raises FileNotFoundError if there is none, and ValueError saying what is wrong and what to do if the file is
    damaged, is no image head, or was trained for other classes or for a teacher of another width.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no image head at {path}; make one with `tttkd train image-head`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or cut short ({error}); fetch or train it again") from error
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path}: format {metadata.get('format')!r}, expected {_FORMAT!r}: this is no image head")
    if metadata.get("classes") != json.dumps(CLASS_SETS[class_set].names):
        raise ValueError(f"{path}: classes {metadata.get('classes')}, but the student's are {class_set!r}")
    name = metadata.get("teacher", "")
    if metadata.get("dim") != str(dim):
        raise ValueError(
            f"{path}: trained with a teacher of {metadata.get('dim')} features ({name or 'unnamed'}), but the teacher "
            f"given has {dim}; make one for it with `tttkd train image-head --teacher DIRECTORY`"
        )
    from tttkd_ros.segmenter.checkpoint import differences  # brings spconv along, which takes seconds

    head = ImageHead(class_set, dim, name)
    if wrong := differences(head.state_dict(), tensors):
        raise ValueError(f"{path}: the weights are not those of an image head: {'; '.join(wrong)}")
    head.load_state_dict(tensors)
    return head.eval()
