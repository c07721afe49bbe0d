"""Which voxels meet in a convolution: spconv's index pairs, built for the CPU.

spconv's own CPU builder numbers a grid's cells in 32 bits: a large sweep, or a batch of small ones, wraps around
without a word and connects voxels that are far apart (spconv issues 607, 656). It also keeps Python's global lock all
the while, so that a sweep would wait for a step. This one takes as long, has 64 bits and lets other threads run. On a
GPU spconv has 64 bits too, and builds its own.
"""

from __future__ import annotations

import torch
from spconv.core import ConvAlgo
from spconv.pytorch.core import IndiceData
from torch import Tensor

from tttkd_ros.segmenter.voxels import GRID, Voxels, keys_of


def index_pairs(voxels: Voxels, levels: int) -> dict[str, IndiceData]:
    """The pairs of a U-Net: "level0", ... of 3x3x3 submanifold convolutions, "down0", ... of 2x2x2 strided ones."""
    pairs = {}
    indices, shape = voxels.indices, voxels.spatial_shape
    for level in range(levels):
        pairs[f"level{level}"] = _data(indices, indices, *_submanifold(keys_of(indices)), shape, shape, 3, True)
        if level + 1 < levels:
            coarse, matches, counts = _strided(indices)
            half = [size // 2 for size in shape]
            pairs[f"down{level}"] = _data(coarse, indices, matches, counts, shape, half, 2, False)
            indices, shape = coarse, half
    return pairs


def _submanifold(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs (2, 27, V) int32 as [in, out] with out + offset = in, and the number of pairs of every offset (27,) int32.

    An offset counts as k = 9 (dx + 1) + 3 (dy + 1) + (dz + 1). As spconv has it, the centre (k = 13) is not listed, row
    26 - k holds row k swapped, and only the rows before the centre are counted. keys (V,) int64 ascending.
    """
    padded = torch.cat([keys, keys.new_tensor([-1])])  # a key that no voxel has, so that the end can be read past
    columns = torch.tensor([[-1, -1], [-1, 0], [-1, 1], [0, -1]]) @ torch.tensor([GRID**2, GRID])
    wanted = keys + columns[:, None] - 1
    place = torch.searchsorted(keys, wanted)  # keys along z are consecutive: one search finds a column's three
    hits, places = [], []
    for dz in range(3):
        hits.append(padded[place] == wanted + dz)
        places.append(place)
        place = place + hits[-1]
    before = torch.arange(-1, len(keys) - 1)  # of (0, 0, -1): the predecessor, if it is in the list at all
    follows = ((padded[before] == keys - 1) & (keys > 0))[None]
    hit = torch.cat([torch.stack(hits, 1).flatten(0, 1), follows])
    place = torch.cat([torch.stack(places, 1).flatten(0, 1), before[None]])
    counts = torch.zeros(27, dtype=torch.int32)
    counts[:13] = hit.sum(1)
    offset, out = hit.nonzero().unbind(1)
    pairs = _fill(27, len(keys), counts, offset, place[hit], out)
    pairs[:, 14:] = pairs[:, :13].flip(0, 1)
    return pairs, counts


def _strided(indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse voxels (C, 4), pairs (2, 8, V) int32 as [fine, coarse], and their number for every corner (8,) int32."""
    batch, cells = indices[:, :1], indices[:, 1:]
    halved = torch.cat([batch, cells // 2], 1)
    keys, parent = torch.unique(keys_of(halved), return_inverse=True)
    coarse = torch.empty(len(keys), 4, dtype=torch.int32)
    coarse[parent] = halved
    x, y, z = (cells % 2).long().unbind(1)
    corner, fine = (x * 4 + y * 2 + z).sort(stable=True)
    counts = torch.bincount(corner, minlength=8).int()
    return coarse, _fill(8, len(indices), counts, corner, fine, parent[fine]), counts


def _fill(kinds: int, room: int, counts: Tensor, kind: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """(2, kinds, room) int32: the pairs (first, second), which come sorted by kind, flush left in the row of theirs."""
    start = counts.cumsum(0) - counts
    column = torch.arange(len(kind)) - start[kind]
    pairs = torch.full((2, kinds, room), -1, dtype=torch.int32)
    pairs[0, kind, column] = first.int()
    pairs[1, kind, column] = second.int()
    return pairs


def _data(outs, ins, pairs, counts, in_shape, out_shape, kernel: int, submanifold: bool) -> IndiceData:
    return IndiceData(
        outs, ins, pairs, counts, in_shape, out_shape, is_subm=submanifold, algo=ConvAlgo.Native, ksize=[kernel] * 3,
        stride=[1 if submanifold else 2] * 3, dilation=[1] * 3, padding=[1 if submanifold else 0] * 3,
    )
