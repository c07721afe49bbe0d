"""Pairs of voxels that meet in a convolution: spconv's index pairs, built for the CPU.

spconv's own CPU builder numbers the cells of a grid in 32 bits. A large sweep, or a batch of small ones, overflows
silently and connects voxels that are far apart (spconv issues 607, 656). It also holds the interpreter lock, so a sweep
waits for a step. This builder has 64 bits and releases the lock. On a GPU spconv has 64 bits and builds its own.

NumPy's masks, searches and sorts take a quarter of the time of torch's on one core.
"""

from __future__ import annotations

import numpy as np
import torch

from tttkd_ros.segmenter.sparse import ConvAlgo, IndiceData, SparseConvTensor
from tttkd_ros.segmenter.voxels import GRID, Voxels, cells_of, keys_of, unique


def sparse_tensor(voxels: Voxels, levels: int, stem: int = 0) -> SparseConvTensor:
    """Return the voxels and their features as spconv's tensor. On the CPU it has the pairs of `index_pairs`."""
    tensor = SparseConvTensor(voxels.features(), voxels.indices, voxels.spatial_shape, voxels.batch_size)
    if not voxels.indices.is_cuda:
        if not voxels.pairs:
            voxels.pairs.update(index_pairs(voxels, levels, stem))
        tensor.indice_dict = dict(voxels.pairs)
    return tensor


def index_pairs(voxels: Voxels, levels: int, stem: int = 0) -> dict[str, IndiceData]:
    """Find the pairs of a U-Net for voxels on the CPU.

    "level0", ... are those of 3x3x3 submanifold convolutions, "down0", ... those of 2x2x2 strided convolutions, and
    "stem" those of a submanifold convolution of the finest level with another kernel.

    stem: edge of that kernel in voxels, odd; 0 for none.
    """
    pairs = {}
    indices, shape = voxels.indices.numpy(), voxels.spatial_shape
    if stem:
        pairs["stem"] = _data(indices, indices, *_submanifold(indices, stem), shape, shape, stem, True)
    for level in range(levels):
        pairs[f"level{level}"] = _data(indices, indices, *_submanifold(indices, 3), shape, shape, 3, True)
        if level + 1 < levels:
            coarse, children, counts = _strided(indices)
            half = [size // 2 for size in shape]
            pairs[f"down{level}"] = _data(coarse, indices, children, counts, shape, half, 2, False)
            indices, shape = coarse, half
    return pairs


def _submanifold(indices: np.ndarray, kernel: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the pairs of neighbours among sorted voxels (V, 4) int32: (2, K, V) int32 as [in, out] with
    out + offset = in, and the number of pairs of each offset (K,) int32. K is kernel^3, of an odd kernel.

    The offsets (dx, dy, dz) are numbered from (-r, -r, -r) on, dz first; r is kernel // 2. As in spconv, the centre is
    not listed, row K - 1 - k holds row k swapped, and only the rows before the centre are counted.
    """
    radius, last = kernel // 2, kernel**3 - 1
    edge = GRID + radius  # the empty cells between two columns keep the offsets along z within one
    batch, x, y, z = indices.T.astype(np.int64)
    keys = ((batch * edge + x) * edge + y) * edge + z
    pairs = np.full((2, last + 1, len(keys)), -1, np.int32)
    counts = np.zeros(last + 1, np.int32)
    padded = np.append(keys, -1)  # searchsorted may point behind the end; no voxel has the key -1
    for column in range(kernel**2 // 2 + 1):  # the centre's is the last
        dx, dy = divmod(column, kernel)
        wanted = keys + (((dx - radius) * edge + dy - radius) * edge - radius)
        place = np.searchsorted(keys, wanted)  # keys along z are consecutive: one search finds all of a column
        for number in range(column * kernel, min((column + 1) * kernel, last // 2)):
            found = padded.take(place) == wanted
            out = np.flatnonzero(found)
            source = place.take(out)
            count = counts[number] = len(out)
            pairs[0, number, :count] = pairs[1, last - number, :count] = source
            pairs[1, number, :count] = pairs[0, last - number, :count] = out
            place += found
            wanted += 1
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
