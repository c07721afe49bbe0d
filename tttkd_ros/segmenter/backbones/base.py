"""What every backbone offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from torch import Tensor, nn

from tttkd_ros.segmenter.image_features import ImageFeatures, ImageGrid, image_grid
from tttkd_ros.segmenter.injection import Injection, Place
from tttkd_ros.segmenter.sparse import SparseConvolution, SparseConvTensor
from tttkd_ros.segmenter.voxels import Voxels, coarse_cells, voxelise

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
        rate_scale: what the learning rate of TTT-KD is multiplied by, so that one default serves all networks.
        places: where image features can be added, see `Injection`; none by default.
        injection: adds image features; None in a network without.
    """

    channels: int
    cell: int = 1
    constants: tuple[str, ...] = ()
    rate_scale: float = 1.0
    places: Mapping[str, Place] = MappingProxyType({})

    def __init__(self, inputs: int, voxel_size: float):
        super().__init__()
        self.inputs, self.voxel_size = inputs, voxel_size
        self.injection: Injection | None = None

    @abstractmethod
    def prepare(self, clouds: Sequence[Tensor], inputs: Sequence[Tensor] | None = None,
                offsets: Sequence[Tensor] | None = None, images: ImageFeatures | None = None) -> Prepared:
        """Bring a batch of clouds into the network's own form.

        Args:
            clouds: (N, 3) each, metres, z up. Any of them may be empty.
            inputs: (N, `inputs`) each; None if that is 0.
            offsets: (3,) each, metres, by which an augmentation moves the network's grid.
            images: of all points, one cloud after the other; given if, and only if, there is an `injection`. A network
                without `places` needs no such argument.

        Raises:
            ValueError: the points of a cloud are not finite or too far apart.
        """

    def image_grid(self, images: ImageFeatures | None, voxels: Voxels) -> ImageGrid | None:
        """Return what `inject` needs of the image features of a batch; None without an `injection`, or any voxel."""
        if self.injection is None or not len(voxels):
            return None
        return image_grid(images, voxels, self.injection.halvings)

    def inject(self, place: str, features: Tensor, images: ImageGrid | None, indices: Tensor | None = None) -> Tensor:
        """Add image features to those of a place, if they belong there. indices: see `Injection.project`."""
        if self.injection is None or place not in self.injection:
            return features
        return features + self.injection.project(place, images, indices)

    @abstractmethod
    def forward(self, prepared: Prepared) -> Tensor:
        """Compute features (rows, `channels`); there is at least one row. Equal input gives equal output."""

    def calibrate(self, batches: Iterable[Prepared]) -> None:  # noqa: B027 (few have any)
        """Set the constants that depend on the data, from some batches of training data, before training."""

    def coarse_cells(self, prepared: Prepared) -> int:
        """Return how many cells of the coarsest level are occupied: over so few rows BatchNorm computes statistics."""
        return len(prepared)


class VoxelBackbone(Backbone):
    """A sparse U-Net: each level halves the grid of the one before, down to cells of `cell` voxels."""

    def prepare(self, clouds: Sequence[Tensor], inputs: Sequence[Tensor] | None = None,
                offsets: Sequence[Tensor] | None = None, images: ImageFeatures | None = None) -> Voxels:
        voxels = voxelise(clouds, self.voxel_size, self.cell, offsets, inputs)
        return replace(voxels, images=self.image_grid(images, voxels))

    def inject_grid(self, place: str, grid: SparseConvTensor, voxels: Voxels) -> SparseConvTensor:
        """Add image features to those of a place, see `inject`. voxels: from `prepare`."""
        return grid.replace_feature(self.inject(place, grid.features, voxels.images, grid.indices))

    def coarse_cells(self, prepared: Voxels) -> int:
        return coarse_cells(prepared, self.cell.bit_length() - 1)


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
