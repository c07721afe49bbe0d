"""The tensors that adaptation changes, and how they move from one copy of a student to another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from tttkd_ros.devices import wait_for_stream
from tttkd_ros.segmenter.backbones.base import Backbone

OTHER_BACKBONE = "these weights belong to another backbone; hand over those of a copy of this student"


@dataclass(frozen=True)
class Weights:
    """A copy of the adapted tensors that nobody writes to."""

    version: int  # rises with every change; 0 stands for the weights as shipped
    tensors: Mapping[str, Tensor]  # by name within the backbone

    @classmethod
    def copied(cls, version: int, backbone: Backbone) -> Weights:
        """Copy the adaptable tensors of a backbone and wait until the copy is complete."""
        tensors = {name: tensor.detach().clone() for name, tensor in adaptable(backbone).items()}
        wait_for_stream(next(iter(tensors.values())).device)  # the reader works in another CUDA stream
        return cls(version, MappingProxyType(tensors))

    def fit(self, tensors: Mapping[str, Tensor]) -> bool:
        """Return whether these tensors have the same names and shapes."""
        own, others = ({name: tensor.shape for name, tensor in each.items()} for each in (self.tensors, tensors))
        return own == others


def adaptable(backbone: Backbone) -> dict[str, Tensor]:
    """Return all that a method may change, by name: the parameters, BatchNorm's running mean and variance, and what a
    method has added. The backbone's constants are left out."""
    return {name: tensor for name, tensor in backbone.state_dict(keep_vars=True).items()
            if tensor.is_floating_point() and name not in backbone.constants}


@torch.no_grad()
def overwrite(backbone: Backbone, weights: Weights) -> None:
    """Copy weights into a backbone. Raises ValueError if they belong to another one."""
    tensors = adaptable(backbone)
    if not weights.fit(tensors):
        raise ValueError(OTHER_BACKBONE)
    for name, tensor in weights.tensors.items():
        tensors[name].copy_(tensor)


def total_norm(tensors: Iterable[Tensor]) -> float:
    """Return the Euclidean norm of all elements of some tensors. It is not finite if one element is not."""
    # In double precision: the square of a large float32 overflows.
    parts = [torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64) for tensor in tensors]
    return torch.stack(parts).norm().item()
