"""A class for every patch: a linear layer on the frozen teacher's features, for methods that need a 2D class branch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from tttkd_ros.classes import ClassSet
from tttkd_ros.tensor_files import read_tensors, tensor_mismatches, write_tensors

_FORMAT = "tttkd_ros image head 1"


class ImageHead(nn.Module):
    """BatchNorm and a linear layer: the smallest 2D branch that has the statistics and scales that MM-TTA adapts.

    dim: width of the features of the teacher that the head was trained with.
    """

    def __init__(self, class_set: ClassSet, dim: int, teacher_name: str = ""):
        super().__init__()
        self.class_set, self.dim, self.teacher_name = class_set, dim, teacher_name
        self.norm = nn.BatchNorm1d(dim)
        self.linear = nn.Linear(dim, len(class_set))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (M, classes) of unnormalised teacher features (M, dim)."""
        return self.linear(self.norm(features))


def save_image_head(head: ImageHead, path: str | Path, provenance: Mapping[str, str]) -> None:
    """Write an image head atomically. provenance: how it was made (command, seed, data)."""
    write_tensors(path, _FORMAT, head.state_dict(), classes=json.dumps(head.class_set.names),
                  dim=str(head.dim), teacher=head.teacher_name, provenance=json.dumps(dict(provenance)))


def describe_image_head(path: str | Path) -> dict[str, str]:
    """Read an image head's provenance. Raises ValueError if the file is damaged or holds no image head."""
    metadata, _ = read_tensors(path, _FORMAT, load=False)
    try:
        return dict(json.loads(metadata["provenance"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the description of the image head is damaged ({error}); train it again") from error


def load_image_head(path: str | Path, *, class_set: ClassSet, dim: int) -> ImageHead:
    """Load an image head, in eval mode.

    Raises FileNotFoundError, or ValueError if the file is damaged, holds no image head, or one for other classes or
    another width than the student's and the teacher's.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no image head at {path}; make one with `tttkd train image-head`")
    metadata, tensors = read_tensors(path, _FORMAT)
    if metadata.get("classes") != json.dumps(class_set.names):
        raise ValueError(f"{path}: classes {metadata.get('classes')}, but the student has {class_set}; make a head "
                         "with `tttkd train image-head`")
    name = metadata.get("teacher", "")
    if metadata.get("dim") != str(dim):
        raise ValueError(f"{path}: trained with a teacher of {metadata.get('dim')} features ({name or 'unnamed'}), but "
                         f"the one given has {dim}; make a head with `tttkd train image-head --teacher DIRECTORY`")
    head = ImageHead(class_set, dim, name)
    if mismatches := tensor_mismatches(head.state_dict(), tensors):
        raise ValueError(f"{path}: the weights are not those of an image head: {'; '.join(mismatches)}")
    head.load_state_dict(tensors)
    return head.eval()
