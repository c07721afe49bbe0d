"""Points to voxels and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from tttkd_ros.segmenter.image_features import ImageGrid

GRID_BITS = 12
GRID = 2**GRID_BITS  # voxels along an axis at most (xMUDA's full_scale)


@dataclass(frozen=True, eq=False)
class Voxels:
    """Occupied voxels of a batch of clouds."""

    indices: Tensor  # (V, 4) int32, [batch, x, y, z], sorted
    row: Tensor  # (sum N,) int64, the voxel of every point
    spatial_shape: list[int]  # of the grid in voxels along x, y, z
    batch_size: int  # clouds, empty ones included
    inputs: Tensor | None = None  # (V, C), mean of the inputs of the voxel's points; None for a constant
    pairs: dict = field(default_factory=dict)  # cache of neighbours.py
    images: ImageGrid | None = None  # of a backbone with injection

    def __len__(self) -> int:
        return len(self.indices)

    def features(self) -> Tensor:
        """Return (V, C), or (V, 1) ones without inputs."""
        return torch.ones(len(self), 1, device=self.indices.device) if self.inputs is None else self.inputs


def in_grid(points: Tensor, voxel_size: float) -> Tensor:
    """Find the points (N, 3) that are finite and so near to the sensor that any two share a grid; return (N,) bool."""
    x, y, z = (axis.abs() < (GRID // 2 - 1) * voxel_size for axis in points.T)  # false for NaN
    return x & y & z


def rotation(angle: float) -> Tensor:
    """Return (3, 3), a rotation about the vertical for points as rows. angle: radians."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return torch.tensor([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def rotations(count: int) -> list[Tensor]:
    """Return the `rotation`s that divide a full turn into `count` parts, without the one that changes nothing."""
    return [rotation(2 * math.pi * number / count) for number in range(1, count)]


def in_nearest_voxels(points: Tensor, voxel_size: float, count: int) -> Tensor:
    """Find the points (N, 3) in the `count` occupied voxels nearest to the sensor; return (N,) bool."""
    voxels = voxelise([points], voxel_size)
    if len(voxels) <= count:
        return torch.ones(len(points), dtype=torch.bool, device=points.device)
    squared = points.square().sum(1)
    nearest = squared.new_full((len(voxels),), torch.inf).scatter_reduce_(0, voxels.row, squared, "amin")
    selected = torch.zeros(len(voxels), dtype=torch.bool, device=points.device)
    selected[nearest.topk(count, largest=False).indices] = True
    return selected[voxels.row]


def keys_of(batch, x, y, z):
    """Number voxels (V,) int64 in the order of [batch, x, y, z]; neighbours along z have consecutive numbers."""
    return ((batch * GRID + x) * GRID + y) * GRID + z


def cube_keys(points: Tensor, edge: float) -> Tensor:
    """Number the cubes of a fixed grid that points (N, 3) within `in_grid` lie in; return (N,) int64.

    edge: of a cube, metres, not below the voxel size.
    """
    return keys_of(0, *((points / edge).floor_().long() + GRID // 2).T)


def cells_of(keys):
    """Return batch, x, y and z, each (V,), of keys (V,) int64."""
    last = GRID - 1
    return [keys >> 3 * GRID_BITS, keys >> 2 * GRID_BITS & last, keys >> GRID_BITS & last, keys & last]


def voxelise(
    clouds: Sequence[Tensor], voxel_size: float, multiple: int = 1, offsets: Sequence[Tensor] | None = None,
    inputs: Sequence[Tensor] | None = None,
) -> Voxels:
    """Assign the points of a batch of clouds, each (N, 3) in metres, to voxels.

    The grid of a cloud starts at the cloud's minimum, so no absolute position, such as the sensor's height, reaches the
    network. `offsets`, (3,) metres from 0 for each cloud, move that start, which is how an augmentation can move the
    voxels. The spatial shape is rounded up to a multiple. With the network's total stride, strided convolutions lose
    no voxel at the border, however flat the cloud is. `inputs`, (N, C) for each cloud, are averaged in each voxel.
    Raises ValueError if points are not finite, or more than `GRID` voxels apart.
    """
    offsets = [None] * len(clouds) if offsets is None else offsets
    keys = [_keys(batch, *pair, voxel_size) for batch, pair in enumerate(zip(clouds, offsets, strict=True))]
    if not any(len(key) for key in keys):
        device = clouds[0].device if clouds else None
        indices = torch.empty(0, 4, dtype=torch.int32, device=device)
        return Voxels(indices, indices.new_empty(0, dtype=torch.int64), [multiple] * 3, len(clouds))
    indices, row = _occupied(torch.cat(keys))
    shape = [-(-(int(cell.max()) + 1) // multiple) * multiple for cell in indices.T[1:]]
    return Voxels(indices, row, shape, len(clouds), None if inputs is None else means(torch.cat(list(inputs)), row))


def coarsen(voxels: Voxels, halvings: int) -> Voxels:
    """Return the voxels of a grid halved so often; `row` is that of each finer voxel. They have no inputs."""
    batch, *cells = voxels.indices.long().T
    indices, row = _occupied(keys_of(batch, *(cell >> halvings for cell in cells)))
    return Voxels(indices, row, [size >> halvings for size in voxels.spatial_shape], voxels.batch_size)


def coarse_cells(voxels: Voxels, halvings: int) -> int:
    """Return how many cells are occupied after the grid was halved so often."""
    coarse = voxels.indices.long() >> halvings
    return len(torch.unique(keys_of(0, *coarse.T[1:])))


def _occupied(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sorted voxels (V, 4) int32 of keys (N,) int64, and the voxel (N,) int64 of each key."""
    if keys.is_cuda:
        keys, row = torch.unique(keys, return_inverse=True)
    else:
        keys, row = (torch.from_numpy(array) for array in unique(keys.numpy()))
    return torch.stack(cells_of(keys), 1).int(), row


def distinct(keys: Tensor) -> Tensor:
    """Return the distinct keys among (N,) int64 that are not negative, ascending."""
    return torch.unique(keys) if keys.is_cuda else torch.from_numpy(unique(keys.numpy())[0])


def means(values: Tensor, row: Tensor) -> Tensor:
    """Return (rows, C), the mean of the values (N, C) of each row."""
    sums = values.new_zeros(int(row.max()) + 1, values.shape[1]).index_add_(0, row, values)
    return sums / torch.bincount(row).clamp_(min=1)[:, None]


def _keys(batch: int, points: Tensor, offset: Tensor | None, voxel_size: float) -> Tensor:
    """Return (N,) int64, the key of each point's voxel."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {tuple(points.shape)}, expected (N, 3)")
    if not len(points):
        return points.new_empty(0, dtype=torch.int64)
    axes = points.T.contiguous()  # one row per axis: four times as fast
    axes -= axes.amin(1, keepdim=True)
    span, limit = axes.amax(1), (GRID - 2) * voxel_size
    if not (span < limit).all():  # catches NaN too
        raise ValueError(f"the cloud spans {[round(s, 1) for s in span.tolist()]} m, expected finite points less than "
                         f"{limit:g} m apart; drop the points outside of in_grid first")
    if offset is not None:
        axes += torch.minimum(offset.to(span), limit - span)[:, None]  # no further than the grid reaches
    return keys_of(batch, *axes.div_(voxel_size).long())  # no negative numbers, so truncation is floor


def unique(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute np.unique(keys, return_inverse=True) of keys (N,) int64 that are not negative, in a third of the time.

    A plain sort is faster than an argsort, so each key carries its index in its lowest bits, if these are free.
    """
    bits = len(keys).bit_length()
    if int(keys.max(initial=0)) >> (63 - bits):
        return np.unique(keys, return_inverse=True)
    indexed = np.sort(keys << bits | np.arange(len(keys)))
    ordered = indexed >> bits
    first = np.append(True, ordered[1:] != ordered[:-1])[: len(keys)]
    inverse = np.empty(len(keys), np.int64)
    inverse[indexed & (1 << bits) - 1] = np.cumsum(first) - 1
    return ordered[first], inverse
