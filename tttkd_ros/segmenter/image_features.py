"""A teacher's features of the images of a cloud, as an input of a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttkd_ros.segmenter.voxels import Voxels, coarsen, distinct, keys_of


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
class LevelFeatures:
    """The image features of the V occupied cells of a grid.

    keys: (V,) int64, the cells' `keys_of`, ascending. row: (V,) int64, the row of `table` of each cell. table:
    (U, dim). It has far fewer rows than there are cells, because many cells share a patch.
    """

    keys: Tensor
    row: Tensor
    table: Tensor

    def rows_of(self, indices: Tensor) -> Tensor:
        """Return the rows (V,) int64 of cells (V, 4), [batch, x, y, z], in any order."""
        keys = keys_of(*indices.long().T)
        if torch.equal(keys, self.keys):
            return self.row
        return self.row[torch.searchsorted(self.keys, keys)]


ImageGrid = Mapping[int, LevelFeatures]  # by halvings of the grid


def image_grid(images: ImageFeatures, voxels: Voxels, halvings: Sequence[int]) -> ImageGrid:
    """Return the maximum of the features of each cell's points, where unseen points have zeros (DITR, arXiv 2503.18944,
    section 3.1).

    images: of the points of `voxels`. halvings: of the grid, ascending.
    """
    table = torch.cat([images.table, images.table.new_zeros(1, images.table.shape[1])])
    patch = torch.where(images.patch < 0, len(table) - 1, images.patch)  # the row of zeros
    cell, level, done, levels = voxels.row, voxels, 0, {}
    for halving in halvings:
        if halving > done:
            level = coarsen(level, halving - done)
            cell, done = level.row[cell], halving
        pairs = distinct(cell * len(table) + patch)
        cell, patch = pairs // len(table), pairs % len(table)
        levels[halving] = _maxima(keys_of(*level.indices.long().T), table, cell, patch)
    return levels


def _maxima(keys: Tensor, table: Tensor, cell: Tensor, patch: Tensor) -> LevelFeatures:
    """Return the maximum of the patches of each cell. cell: (K,) int64, of each pair, ascending, without gaps."""
    first = torch.ones_like(cell, dtype=torch.bool)
    first[1:] = cell[1:] != cell[:-1]
    row, others = patch[first], torch.nonzero(~first)[:, 0]
    if not len(others):
        return LevelFeatures(keys, row, table)
    several, number = torch.unique(cell[others], return_inverse=True)  # the cells of more than one patch
    maxima = table[row[several]].scatter_reduce(0, number[:, None].expand(-1, table.shape[1]), table[patch[others]],
                                                "amax")
    row[several] = len(table) + torch.arange(len(several), device=row.device)
    return LevelFeatures(keys, row, torch.cat([table, maxima]))
