"""Space-filling curves: numbers of cells in an order that keeps neighbours together.

The four orders of Point Transformer V3 (arXiv 2312.10035, section 4.1): along a z-order and a Hilbert curve, and along
the same curves with x and y swapped.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_DEPTH = 16  # of the cube in halvings: 48 bits of a code
ORDERS = 4
# Each step doubles the distance between groups of bits: from 16 together to one in every three.
_SPREAD = ((32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F), (4, 0x10C30C30C30C30C3),
           (2, 0x1249249249249249))


def codes(cells: Tensor, depth: Tensor) -> Tensor:
    """Number cells along z, z transposed, Hilbert, and Hilbert transposed.

    A code shifted right by three is the code of the cell twice as large that holds the cell.

    Args:
        cells: (V, 3) int64, x, y and z from 0 on.
        depth: (V,) int64, the binary logarithm of the edge of the cube that the curve fills, for each cell.

    Returns:
        (4, V) int64.

    Raises:
        ValueError: a depth is not from 0 to 16, or a cell is outside of its cube.
    """
    if len(depth) and not 0 <= int(depth.min()) <= int(depth.max()) <= MAX_DEPTH:
        raise ValueError(f"depth is {int(depth.min())} to {int(depth.max())}, expected 0 to {MAX_DEPTH}")
    if (cells >> depth[:, None]).any():  # negative ones, too
        raise ValueError("a cell is outside of its cube")
    transposed = cells[:, [1, 0, 2]]
    return torch.stack([z_order(cells), z_order(transposed), hilbert(cells, depth), hilbert(transposed, depth)])


def z_order(cells: Tensor) -> Tensor:
    """Interleave the bits of cells (V, 3) int64 below 2^16, those of x first; return (V,) int64."""
    for shift, mask in _SPREAD:
        cells = (cells | cells << shift) & mask
    x, y, z = cells.T
    return x << 2 | y << 1 | z


def hilbert(cells: Tensor, depth: Tensor) -> Tensor:
    """Number cells along Hilbert's curve, by Skilling's method (AIP Conference Proceedings 707, 381, 2004).

    cells, depth: see `codes`. Returns (V,) int64.
    """
    if not len(cells):
        return cells.new_empty(0)
    deepest = int(depth.max())
    # In a cube twice as large, the curve runs through the first octant with its axes rotated. Rotated the other way
    # beforehand, cells have the codes of their own cube, and one pass serves cubes of all sizes.
    axis = torch.arange(3, device=cells.device) + (deepest - depth)[:, None]
    axes = list(cells.gather(1, axis % 3).T.contiguous())
    for bit in reversed(range(deepest)):
        lower = (1 << bit) - 1
        for number in range(3):
            inverted = -(axes[number] >> bit & 1) & lower  # lower bits of axis 0 that this bit inverts
            if number:
                swapped = (axes[0] ^ axes[number]) & (inverted ^ lower)
                axes[number] = axes[number] ^ swapped
                inverted |= swapped
            axes[0] = axes[0] ^ inverted
    gray = z_order(torch.stack(axes, 1))
    for shift in (1, 2, 4, 8, 16, 32):  # Gray code to binary
        gray = gray ^ gray >> shift
    return gray
