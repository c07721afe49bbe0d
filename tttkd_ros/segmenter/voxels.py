"""Points to voxels and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

BITS = 12  # of a voxel's number along an axis
GRID = 2**BITS  # voxels along an axis at most (xMUDA's full_scale)


@dataclass(frozen=True, eq=False)
class Voxels:
    """Occupied voxels of a batch of clouds.

    indices: (V, 4) int32, [batch, x, y, z], sorted. inverse: (sum N,) int64, the voxel of every point.
    spatial_shape: voxels along x, y, z. batch_size: clouds, empty ones included. pairs: which of them meet in the
    convolutions of a network on the CPU, once one has worked that out (neighbours.py).
    """

    indices: Tensor
    inverse: Tensor
    spatial_shape: list[int]
    batch_size: int
    pairs: dict = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.indices)


def in_grid(points: Tensor, voxel_size: float) -> Tensor:
    """(N,) bool: points (N, 3) that are finite and near enough to the sensor for any two of them to share the grid."""
    x, y, z = (axis.abs() < (GRID // 2 - 1) * voxel_size for axis in points.T)  # false for NaN as well
    return x & y & z


def nearest(points: Tensor, voxel_size: float, count: int) -> Tensor:
    """(N,) bool: of finite points (N, 3) in the grid, those in the `count` occupied voxels nearest to the origin."""
    voxels = voxelise([points], voxel_size)
    if len(voxels) <= count:
        return torch.ones(len(points), dtype=torch.bool, device=points.device)
    distance = points.square().sum(1)
    least = distance.new_full((len(voxels),), torch.inf).scatter_reduce_(0, voxels.inverse, distance, "amin")
    kept = torch.zeros(len(voxels), dtype=torch.bool, device=points.device)
    kept[least.topk(count, largest=False).indices] = True
    return kept[voxels.inverse]


def keys_of(batch, x, y, z):
    """One number for each voxel, in the order of [batch, x, y, z], and neighbours along z consecutive.

    Arrays or tensors (V,) int64, or a number for all of them. The last cell of an axis stays empty (see `voxelise`), so
    that the neighbour before cell 0 is never one that exists.
    """
    return ((batch * GRID + x) * GRID + y) * GRID + z


def cells_of(keys):
    """[batch, x, y, z], each (V,), of keys (V,) int64."""
    last = GRID - 1
    return [keys >> 3 * BITS, keys >> 2 * BITS & last, keys >> BITS & last, keys & last]


def voxelise(clouds: Sequence[Tensor], voxel_size: float, multiple: int = 1) -> Voxels:
    """Voxels of clouds, each (Ni, 3) in metres.

    Every cloud is counted from its own minimum, so that no absolute position, such as the sensor's mount height,
    reaches the network. The spatial shape is rounded up to a `multiple`, the network's total stride, so that strided
    convolutions lose no voxel at the border however flat the cloud is.

    Raises ValueError for points that are not finite or lie more than `GRID` voxels apart (see `in_grid`).
    """
    keys = [_keys(batch, points, voxel_size) for batch, points in enumerate(clouds)]
    if not any(len(key) for key in keys):
        device = clouds[0].device if clouds else None
        indices = torch.empty(0, 4, dtype=torch.int32, device=device)
        return Voxels(indices, indices.new_empty(0, dtype=torch.int64), [multiple] * 3, len(clouds))
    key, inverse = _unique(torch.cat(keys))
    batch, *cells = cells_of(key)
    indices = torch.stack([batch, *cells], 1).int()
    shape = [-(-(int(cell.max()) + 1) // multiple) * multiple for cell in cells]
    return Voxels(indices, inverse, shape, len(clouds))


def _keys(batch: int, points: Tensor, voxel_size: float) -> Tensor:
    """(N,) int64: the key of each point's voxel."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {tuple(points.shape)}, expected (N, 3)")
    if not len(points):
        return points.new_empty(0, dtype=torch.int64)
    axes = points.T.contiguous()  # a row for each axis: what follows takes a fourth of the time
    axes -= axes.amin(1, keepdim=True)
    span = axes.amax(1)
    if not (span < (GRID - 2) * voxel_size).all():  # written so that NaN is caught too
        raise ValueError(
            f"the cloud spans {[round(s, 1) for s in span.tolist()]} m, expected finite points less than "
            f"{(GRID - 2) * voxel_size:g} m apart; drop the others first (in_grid tells which)"
        )
    return keys_of(batch, *axes.div_(voxel_size).long())  # not negative, so truncation is floor


def _unique(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The different keys, ascending, and for each of `keys` the number of its own among them."""
    if keys.is_cuda:
        return torch.unique(keys, return_inverse=True)
    return tuple(torch.from_numpy(part) for part in unique(keys.numpy()))


def unique(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As np.unique with return_inverse, of keys (N,) int64 that are not negative.

    A sort of the keys alone takes a third of the time of one that has to say where they were. So each key carries its
    own number in its lowest bits, where there is room for it.
    """
    bits = len(keys).bit_length()
    if int(keys.max(initial=0)) >> (63 - bits):
        return np.unique(keys, return_inverse=True)
    numbered = np.sort(keys << bits | np.arange(len(keys)))
    ordered = numbered >> bits
    first = np.append(True, ordered[1:] != ordered[:-1])[: len(keys)]
    inverse = np.empty(len(keys), np.int64)
    inverse[numbered & (1 << bits) - 1] = np.cumsum(first) - 1
    return ordered[first], inverse
