"""Points to voxels and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GRID = 4096  # voxels along an axis at most (xMUDA's full_scale)


@dataclass(frozen=True, eq=False)
class Voxels:
    """Occupied voxels of a batch of clouds.

    indices: (V, 4) int32, [batch, x, y, z], sorted. inverse: (sum N,) int64, the voxel of every point.
    spatial_shape: voxels along x, y, z. batch_size: clouds, empty ones included.
    """

    indices: Tensor
    inverse: Tensor
    spatial_shape: list[int]
    batch_size: int


def in_grid(points: Tensor, voxel_size: float) -> Tensor:
    """(N,) bool: points (N, 3) that are finite and near enough to the sensor for any two of them to share the grid."""
    return (points.abs() < (GRID // 2 - 1) * voxel_size).all(1)  # false for NaN as well


def keys_of(indices: Tensor) -> Tensor:
    """(V,) int64: one number for each of indices (V, 4), in the same order, and neighbours along z consecutive.

    The last cell of an axis stays empty (see `voxelise`), so that the neighbour before cell 0 is never one that exists.
    """
    batch, x, y, z = indices.long().unbind(1)
    return ((batch * GRID + x) * GRID + y) * GRID + z


def voxelise(clouds: Sequence[Tensor], voxel_size: float, multiple: int = 1) -> Voxels:
    """Voxels of clouds, each (Ni, 3) in metres.

    Every cloud is counted from its own minimum, so that no absolute position, such as the sensor's mount height,
    reaches the network. The spatial shape is rounded up to a `multiple`, the network's total stride, so that strided
    convolutions lose no voxel at the border however flat the cloud is.

    Raises ValueError for points that are not finite or lie more than `GRID` voxels apart (see `in_grid`).
    """
    keys = []
    for batch, points in enumerate(clouds):
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points have shape {tuple(points.shape)}, expected (N, 3)")
        if not len(points):
            continue
        span = points.amax(0) - points.amin(0)
        if not (span < (GRID - 2) * voxel_size).all():  # written so that NaN is caught too
            raise ValueError(
                f"the cloud spans {[round(s, 1) for s in span.tolist()]} m, expected finite points less than "
                f"{(GRID - 2) * voxel_size:g} m apart; drop the others first (in_grid tells which)"
            )
        cell = (points - points.amin(0)).div_(voxel_size).long()  # not negative, so truncation is floor
        keys.append(keys_of(torch.cat([torch.full_like(cell[:, :1], batch), cell], 1)))
    if not keys:
        device = clouds[0].device if clouds else None
        indices = torch.empty(0, 4, dtype=torch.int32, device=device)
        return Voxels(indices, indices.new_empty(0, dtype=torch.int64), [multiple] * 3, len(clouds))
    key, inverse = torch.unique(torch.cat(keys), return_inverse=True)
    columns = [key // GRID**3, key // GRID**2 % GRID, key // GRID % GRID, key % GRID]
    indices = torch.stack(columns, 1).int()
    shape = [-(-(int(top) + 1) // multiple) * multiple for top in indices[:, 1:].amax(0)]
    return Voxels(indices, inverse, shape, len(clouds))
