"""Pairs of voxels that meet in a convolution: spconv's index pairs, built for the CPU.

spconv's own CPU builder numbers the cells of a grid in 32 bits. A large sweep, or a batch of small ones, overflows
silently and connects voxels that are far apart (spconv issues 607, 656). It also holds the interpreter lock, so a sweep
waits for a step. This builder has 64 bits and releases the lock. On a GPU spconv has 64 bits and builds its own.

NumPy's masks, searches and sorts take a quarter of the time of torch's on one core.
"""

from __future__ import annotations

import numpy as np
import torch

from tttkd_ros.segmenter.sparse import ConvAlgo, IndiceData
from tttkd_ros.segmenter.voxels import GRID, Voxels, cells_of, keys_of, unique

COLUMNS = ((-1, -1), (-1, 0), (-1, 1), (0, -1))  # (dx, dy) of the offsets 0 to 11, three along z for each


def index_pairs(voxels: Voxels, levels: int) -> dict[str, IndiceData]:
    """Find the pairs of a U-Net for voxels on the CPU.

    "level0", ... are those of 3x3x3 submanifold convolutions, "down0", ... those of 2x2x2 strided convolutions.
    """
    pairs = {}
    indices, shape = voxels.indices.numpy(), voxels.spatial_shape
    for level in range(levels):
        neighbours, counts = _submanifold(keys_of(*indices.T.astype(np.int64)))
        pairs[f"level{level}"] = _data(indices, indices, neighbours, counts, shape, shape, 3, True)
        if level + 1 < levels:
            coarse, children, counts = _strided(indices)
            half = [size // 2 for size in shape]
            pairs[f"down{level}"] = _data(coarse, indices, children, counts, shape, half, 2, False)
            indices, shape = coarse, half
    return pairs


def _submanifold(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs of neighbours among voxels with ascending keys (V,) int64: (2, 27, V) int32 as [in, out] with
    out + offset = in, and the number of pairs of each offset (27,) int32.

    The offset (dx, dy, dz) has the number 9 (dx + 1) + 3 (dy + 1) + (dz + 1). As in spconv, the centre (13) is not
    listed, row 26 - k holds row k swapped, and only the rows before the centre are counted.
    """
    pairs = np.full((2, 27, len(keys)), -1, np.int32)
    counts = np.zeros(27, np.int32)

    def add(number: int, source: np.ndarray, out: np.ndarray) -> None:
        count = counts[number] = len(out)
        pairs[0, number, :count] = pairs[1, 26 - number, :count] = source
        pairs[1, number, :count] = pairs[0, 26 - number, :count] = out

    padded = np.append(keys, -1)  # searchsorted may point behind the end; no voxel has the key -1
    for column, (dx, dy) in enumerate(COLUMNS):
        wanted = keys + ((dx * GRID + dy) * GRID - 1)
        place = np.searchsorted(keys, wanted)  # keys along z are consecutive: one search finds all three of a column
        for dz in range(3):
            found = padded.take(place) == wanted
            out = np.flatnonzero(found)
            add(3 * column + dz, place.take(out), out)
            place += found
            wanted += 1
    below = np.flatnonzero(np.diff(keys) == 1)  # the neighbour below a voxel in its column precedes it in the list
    add(12, below, below + 1)
    return pairs, counts


def _strided(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the coarse voxels (C, 4), pairs (2, 8, V) int32 as [fine, coarse], and their number for each corner (8,)."""
    batch, x, y, z = indices.T.astype(np.int64)
    keys, parent = unique(keys_of(batch, x >> 1, y >> 1, z >> 1))
    corner = (x & 1) << 2 | (y & 1) << 1 | z & 1
    pairs = np.full((2, 8, len(indices)), -1, np.int32)
    counts = np.bincount(corner, minlength=8).astype(np.int32)
    for number, count in enumerate(counts):
        fine = np.flatnonzero(corner == number)
        pairs[0, number, :count], pairs[1, number, :count] = fine, parent.take(fine)
    return np.stack(cells_of(keys), 1).astype(np.int32), pairs, counts


def _data(outs, ins, pairs, counts, in_shape, out_shape, kernel: int, submanifold: bool) -> IndiceData:
    outs, ins, pairs, counts = (torch.from_numpy(array) for array in (outs, ins, pairs, counts))
    return IndiceData(
        outs, ins, pairs, counts, in_shape, out_shape, is_subm=submanifold, algo=ConvAlgo.Native, ksize=[kernel] * 3,
        stride=[1 if submanifold else 2] * 3, dilation=[1] * 3, padding=[1 if submanifold else 0] * 3,
    )
