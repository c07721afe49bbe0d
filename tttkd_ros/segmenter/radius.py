"""Pairs of points within a radius of each other: by trees on the CPU, by sorted cells on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from tttkd_ros.segmenter.voxels import GRID, keys_of

REACH = 2  # cells, the radius of every search


@dataclass(frozen=True, eq=False)
class CellPoints:
    """A batch of clouds with one point per occupied cell of a grid.

    xyz: (M, 3) float32, metres, each in its cell. cells: (M, 4) int64, [batch, x, y, z], sorted. edge: of a cell,
    metres.
    """

    xyz: Tensor
    cells: Tensor
    edge: float

    def __len__(self) -> int:
        return len(self.xyz)


def pairs_within(queries: CellPoints, sources: CellPoints) -> tuple[Tensor, Tensor]:
    """Find the sources within `REACH` cells, of the sources' grid, of each query in the same cloud.

    sources: of the queries' grid, or of that grid halved some times.

    Returns:
        The query and the source of each pair, (P,) int64, queries ascending.
    """
    query, source = (search_cells if queries.xyz.is_cuda else search_trees)(queries, sources)
    order = torch.argsort(query, stable=True)
    return query[order], source[order]


def search_trees(queries: CellPoints, sources: CellPoints) -> tuple[Tensor, Tensor]:
    """Find the pairs of `pairs_within`, in any order. scipy releases the interpreter lock."""
    apart = 4 * GRID * sources.edge  # metres between clouds, along a fourth axis
    query, source = (
        cKDTree(np.column_stack([points.xyz.numpy(), points.cells[:, 0].numpy() * apart]), balanced_tree=False)
        for points in (queries, sources)
    )
    pairs = query.sparse_distance_matrix(source, REACH * sources.edge, output_type="ndarray")
    return torch.from_numpy(pairs["i"].astype(np.int64)), torch.from_numpy(pairs["j"].astype(np.int64))


def search_cells(queries: CellPoints, sources: CellPoints) -> tuple[Tensor, Tensor]:
    """Find the pairs of `pairs_within`, in any order. Keys along z are consecutive, so two searches find the sources of
    a column of cells."""
    batch, *cells = queries.cells.T
    halvings = round(np.log2(sources.edge / queries.edge))
    keys = keys_of(*sources.cells.T)
    near = torch.arange(-REACH, REACH + 1, device=keys.device)
    columns = keys_of(0, near[:, None], near, 0).reshape(-1, 1) + keys_of(batch, *(cell >> halvings for cell in cells))
    first = torch.searchsorted(keys, (columns - REACH).reshape(-1))
    count = torch.searchsorted(keys, (columns + REACH).reshape(-1), right=True) - first
    query = torch.arange(len(queries), device=keys.device).repeat(len(columns)).repeat_interleave(count)
    source = ranges(first, count)
    close = (queries.xyz[query] - sources.xyz[source]).square().sum(1) <= (REACH * sources.edge) ** 2
    close &= batch[query] == sources.cells[source, 0]
    return query[close], source[close]


def ranges(first: Tensor, count: Tensor) -> Tensor:
    """Return first[0], first[0] + 1, ..., `count[0]` numbers, and so on: (sum count,) int64."""
    shift = first - count.cumsum(0) + count
    return torch.arange(int(count.sum()), device=first.device) + shift.repeat_interleave(count)
