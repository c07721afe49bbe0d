"""What every backbone offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Protocol

from torch import Tensor, nn

from tttkd_ros.segmenter.sparse import SparseConvolution

MAX_SIZE = 2**16 - 1  # of an option, so that a model's parameters can be counted


class Prepared(Protocol):
    """A batch in a backbone's own form: voxels, neighbours, an order. It serves any number of passes.

    Attributes:
        row: (sum N,) int64, the row of the output that belongs to each point.
    """

    row: Tensor

    def __len__(self) -> int:
        """Return the number of rows."""


class Backbone(nn.Module, ABC):
    """psi_3D: computes features of points. The points of one row share their features.

    Attributes:
        inputs: numbers that come with each point; 0 for none but a constant.
        voxel_size: metres, the finest length that the network resolves.
        channels: width of the features.
        cell: edge of the cells of the coarsest level, voxels; 1 without levels.
        constants: names, in the state dict, of buffers that belong to the weights but that no adaptation changes.
    """

    channels: int
    cell: int = 1
    constants: tuple[str, ...] = ()

    def __init__(self, inputs: int, voxel_size: float):
        super().__init__()
        self.inputs, self.voxel_size = inputs, voxel_size

    @abstractmethod
    def prepare(self, clouds: Sequence[Tensor], inputs: Sequence[Tensor] | None = None,
                offsets: Sequence[Tensor] | None = None) -> Prepared:
        """Bring a batch of clouds into the network's own form.

        Args:
            clouds: (N, 3) each, metres, z up. Any of them may be empty.
            inputs: (N, `inputs`) each; None if that is 0.
            offsets: (3,) each, metres, by which an augmentation moves the network's grid.

        Raises:
            ValueError: the points of a cloud are not finite or too far apart.
        """

    @abstractmethod
    def forward(self, prepared: Prepared) -> Tensor:
        """Compute features (rows, `channels`); there is at least one row. Equal input gives equal output."""

    def calibrate(self, batches: Iterable[Prepared]) -> None:  # noqa: B027 (few have any)
        """Set the constants that depend on the data, from some batches of training data, before training."""

    def coarse_cells(self, prepared: Prepared) -> int:
        """Return how many cells of the coarsest level are occupied: over so few rows BatchNorm computes statistics."""
        return len(prepared)


def gradients_only(module: nn.Module) -> nn.Module:
    """Put a network into eval mode, but spconv's convolutions into train mode, in which they compute nothing else. In
    eval mode their kernels bypass autograd (spconv issues 668, 675). Return the network."""
    module.eval()
    for layer in module.modules():
        if isinstance(layer, SparseConvolution):
            layer.train()
    return module


def check_sizes(**sizes: object) -> None:
    """Raise ValueError if an option, or an element of one that is a tuple, is not a whole number from 1 on."""
    for name, size in sizes.items():
        elements = size if isinstance(size, tuple) and size else (size,)
        if not all(type(element) is int and 1 <= element <= MAX_SIZE for element in elements):
            raise ValueError(f"{name} is {size!r}, expected whole numbers from 1 to {MAX_SIZE}")
