"""Voxels in the order of space-filling curves, divided into patches for attention, on levels of growing cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tttkd_ros.segmenter.curves import MAX_DEPTH, ORDERS, codes
from tttkd_ros.segmenter.neighbours import index_pairs
from tttkd_ros.segmenter.sparse import ConvAlgo, ops
from tttkd_ros.segmenter.voxels import Voxels, coarsen

BATCH_SHIFT = 3 * MAX_DEPTH  # from here on, bits of a code are those of the cloud's number
MAX_CLOUDS = 2 ** (63 - BATCH_SHIFT)


@dataclass(frozen=True, eq=False)
class Patches:
    """Runs of voxels of one cloud that follow each other in an order.

    A cloud that is no multiple of the patch size lends the last patch voxels of the patch before. A cloud of fewer
    voxels is one smaller patch.
    """

    rows: Tensor  # (M,) int64, the voxels of patch after patch
    shapes: list[tuple[int, int]]  # number of patches, and voxels of each; adds up to M
    place: Tensor  # (V,) int64, where in `rows` each voxel is in its own patch


@dataclass(frozen=True, eq=False)
class Level:
    """The V voxels of one level.

    Attributes:
        pairs: of 3x3x3 submanifold convolutions.
        patches: for each of the four orders of `curves.codes`.
        parent: (V,) int64, the voxel of the next level; None at the coarsest.
    """

    pairs: tuple[Tensor, Tensor]
    patches: list[Patches]
    parent: Tensor | None

    def __len__(self) -> int:
        return len(self.patches[0].place)


def serialise(voxels: Voxels, halvings: Sequence[int], patch_size: int) -> list[Level]:
    """Return the levels of a grid, finest first. There is at least one voxel.

    Args:
        voxels: of the finest level.
        halvings: of the grid between each level and the next.
        patch_size: voxels that a patch has at most.

    Raises:
        ValueError: there are too many clouds for 64 bits.
    """
    if voxels.batch_size > MAX_CLOUDS:
        raise ValueError(f"the batch has {voxels.batch_size} clouds, expected at most {MAX_CLOUDS}")
    levels, keys = [], _keys(voxels)
    for halving in halvings:
        coarse = coarsen(voxels, halving)
        levels.append(_level(voxels, keys, coarse.row, patch_size))
        fine, keys = keys, keys.new_empty(ORDERS, len(coarse))
        keys[:, coarse.row] = fine >> 3 * halving  # all voxels of a cell agree
        voxels = coarse
    return [*levels, _level(voxels, keys, None, patch_size)]


def submanifold_pairs(voxels: Voxels, kernel: int) -> tuple[Tensor, Tensor]:
    """Return spconv's pairs (2, K, V) int32 of a submanifold convolution, and their number (K,) int32; K is kernel^3.

    kernel: its edge in voxels, odd.
    """
    if voxels.indices.is_cuda:
        size, one, zero = [kernel] * 3, [1] * 3, [0] * 3
        _, *pairs = ops.get_indice_pairs(voxels.indices, voxels.batch_size, voxels.spatial_shape, ConvAlgo.Native,
                                         size, stride=one, padding=zero, dilation=one, out_padding=zero, subm=True)
        return tuple(pairs)
    data = index_pairs(voxels, 0, kernel)["stem"]
    return data.indice_pairs, data.indice_pair_num


def divide(sizes: Sequence[int], patch_size: int) -> tuple[Tensor, list[tuple[int, int]], Tensor]:
    """Divide runs of voxels into patches.

    Args:
        sizes: voxels of each run, one run after the other.
        patch_size: voxels that a patch has at most.

    Returns:
        (M,) int64, the voxels of patch after patch; `Patches.shapes`; and `Patches.place`, all for voxels in order.
    """
    positions, shapes, places, start, taken = [], [], [], 0, 0
    for size in filter(None, sizes):
        length = min(size, patch_size)
        count, rest = -(-size // length), size % length
        positions.append(torch.arange(start, start + size - rest))
        places.append(torch.arange(taken, taken + size - rest))
        start, taken = start + size, taken + count * length
        if rest:
            positions.append(torch.arange(start - length, start))
            places.append(torch.arange(taken - rest, taken))
        if shapes and shapes[-1][1] == length:
            count += shapes.pop()[0]
        shapes.append((count, length))
    return torch.cat(positions), shapes, torch.cat(places)


def _keys(voxels: Voxels) -> Tensor:
    """Return (4, V) int64, the code of each voxel in each order behind the number of its cloud.

    The cube of a cloud is as large as its own voxels need, so other clouds of the batch do not change its order.
    """
    batch, cells = voxels.indices[:, 0].long(), voxels.indices[:, 1:].long()
    largest = cells.new_zeros(voxels.batch_size).scatter_reduce(0, batch, cells.amax(1), "amax")
    # One bit more than the largest cell needs if that is all ones, as in Pointcept.
    depths = torch.tensor([(cell + 1).bit_length() for cell in largest.tolist()], device=cells.device)
    return batch << BATCH_SHIFT | codes(cells, depths[batch])


def _level(voxels: Voxels, keys: Tensor, parent: Tensor | None, patch_size: int) -> Level:
    sizes = torch.bincount(voxels.indices[:, 0], minlength=voxels.batch_size).tolist()
    positions, shapes, places = divide(sizes, patch_size)
    positions, places = positions.to(keys.device), places.to(keys.device)
    patches = [Patches(order[positions], shapes, torch.empty_like(order).scatter_(0, order, places))
               for order in keys.argsort(1)]
    return Level(submanifold_pairs(voxels, 3), patches, parent)
