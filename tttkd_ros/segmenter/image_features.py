"""A teacher's features of the images of a cloud, as an input of a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttkd_ros.segmenter.voxels import Voxels, coarsen, keys_of


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """The patch that each of N points projects to.

    patch: (N,) int64, rows of `table`; -1 if no camera sees the point. table: (P, dim), features of patches.
    """

    patch: Tensor
    table: Tensor

    def __getitem__(self, rows: Tensor) -> ImageFeatures:
        """Return those of some of the points. rows: a mask (N,) bool, or (M,) int64."""
        return ImageFeatures(self.patch[rows], self.table)

    def to(self, device: torch.device) -> ImageFeatures:
        """Return them on a device."""
        return ImageFeatures(self.patch.to(device), self.table.to(device))

    @classmethod
    def none(cls, points: int, dim: int, device: torch.device | None = None) -> ImageFeatures:
        """Return those of points that no camera sees."""
        return cls(torch.full((points,), -1, device=device), torch.zeros(0, dim, device=device))

    @classmethod
    def joined(cls, clouds: Sequence[ImageFeatures]) -> ImageFeatures:
        """Return those of the points of several clouds, one after the other."""
        starts, tables, rows = {}, [], 0  # clouds of a batch may share a table
        for cloud in clouds:
            if id(cloud.table) not in starts:
                starts[id(cloud.table)] = rows
                tables.append(cloud.table)
                rows += len(cloud.table)
        patch = [torch.where(cloud.patch < 0, -1, cloud.patch + starts[id(cloud.table)]) for cloud in clouds]
        return cls(torch.cat(patch), torch.cat(tables) if len(tables) > 1 else tables[0])


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """The image features of the occupied cells of a grid at several of its halvings.

    keys: halvings -> (V,) int64, the cells' `keys_of`, ascending. values: halvings -> (V, dim).
    """

    keys: dict[int, Tensor]
    values: dict[int, Tensor]

    def at(self, halvings: int, indices: Tensor | None = None) -> Tensor:
        """Return the features of cells. indices: (V, 4), [batch, x, y, z], if their order is not that of the keys."""
        values = self.values[halvings]
        if indices is None:
            return values
        return values[torch.searchsorted(self.keys[halvings], keys_of(*indices.long().T))]


def image_grid(images: ImageFeatures, voxels: Voxels, halvings: Sequence[int]) -> ImageGrid:
    """Return the maximum of the features of each cell's points, where unseen points have zeros (DITR, arXiv 2503.18944,
    section 3.1).

    images: of the points of `voxels`. halvings: of the grid, ascending.
    """
    # A cell's points share few patches. So the maximum is taken over the distinct pairs of cell and patch. The row of
    # zeros behind the table is that of unseen points.
    table = torch.cat([images.table, images.table.new_zeros(1, images.table.shape[1])])
    patch = torch.where(images.patch < 0, len(table) - 1, images.patch)
    row, level, done = voxels.row, voxels, 0
    keys, values = {}, {}
    for halving in halvings:
        if halving > done:
            level = coarsen(level, halving - done)
            row, done = level.row[row], halving
        pairs = torch.unique(row * len(table) + patch)
        row, patch = pairs // len(table), pairs % len(table)
        keys[halving] = keys_of(*level.indices.long().T)
        values[halving] = _maxima(table, row, patch)
    return ImageGrid(keys, values)


def _maxima(table: Tensor, row: Tensor, patch: Tensor) -> Tensor:
    """Return (rows, dim), the maximum of the features of each row's patches. row: ascending, without gaps."""
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = row[1:] != row[:-1]
    maxima, others = table[patch[first]], torch.nonzero(~first)[:, 0]  # most rows have one patch
    return maxima.scatter_reduce(0, row[others][:, None].expand(-1, table.shape[1]), table[patch[others]], "amax")
