"""LiDAR points to a camera's pixels and to the teacher's patches, with what the camera cannot see left out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.geometry.camera import CameraModel, flatnonzero
from tttkd_ros.geometry.transforms import apply

# The z-buffer. A cell holds a few returns of a 64-ring sensor; the reach spans the gap between the rings of a 32-ring
# one (1.3 degrees, 29 pixels of a 1,600-pixel image), so that what lies behind a surface cannot shine through it.
CELLS_ACROSS = 200  # cells in an image's width
REACH = 4  # cells looked at above and below
TOLERANCE_M = 0.5  # nearer by less than this is the same surface ...
TOLERANCE_SHARE = 0.05  # ... or by less than this share of the distance


@dataclass(frozen=True, eq=False)
class Projection:
    """pixels (N, 2) float32 as (u, v); depth (N,) float32, metres from the camera's centre along the ray (a fisheye
    sees beyond 90 degrees, where z is negative), NaN where the point is outside the image. visible (N,) bool."""

    pixels: Tensor
    depth: Tensor
    visible: Tensor


def project(
    points: Tensor, camera: CameraModel, camera_from_lidar: np.ndarray, *, occlusion: bool = True
) -> Projection:
    """points (N, 3), metres, LiDAR frame, on any device; camera_from_lidar (4, 4).

    Visible are the points inside the image and, with `occlusion`, not behind a nearer surface. Points that are not
    finite are never visible.
    """
    in_camera = apply(camera_from_lidar, points.float())
    pixels, visible = camera.project(in_camera)
    inside = flatnonzero(visible)
    distance = in_camera.T.index_select(1, inside).square_().sum(0).sqrt_()
    depth = torch.full_like(in_camera[:, 0], torch.nan).scatter_(0, inside, distance)
    if occlusion:
        u, v = pixels.T.index_select(1, inside)
        visible.scatter_(0, inside, ~_hidden(u, v, distance, camera))
    return Projection(pixels, depth, visible)


def patch_index(projection: Projection, camera: CameraModel, grid: tuple[int, int]) -> Tensor:
    """(N,) int64: row * cols + col of the patch that a point falls on, -1 where it is not visible.

    grid: the teacher's patches (rows, cols) over the whole image. No interpolation between patches (DITR section 3.1):
    row = floor(v / H * rows), col = floor(u / W * cols).
    """
    rows, cols = grid
    u, v = projection.pixels.nan_to_num().unbind(1)
    # A pixel just below the image's edge can round up to the edge.
    row = (v * (rows / camera.height)).long().clamp_(max=rows - 1)
    col = (u * (cols / camera.width)).long().clamp_(max=cols - 1)
    return torch.where(projection.visible, row * cols + col, -1)


def _hidden(u: Tensor, v: Tensor, depth: Tensor, camera: CameraModel) -> Tensor:
    """u, v (M,) inside the image, depth (M,) -> (M,) bool: a nearer surface lies in front of the point.

    A surface is in front where nearer returns lie both above and below the point within `REACH` cells. Asking for both
    keeps the ground, however grazing: it comes nearer below, never above.
    """
    cell = max(camera.width / CELLS_ACROSS, 1.0)
    rows, cols = math.ceil(camera.height / cell), math.ceil(camera.width / cell)
    row, col = (v / cell).long().clamp_(max=rows - 1), (u / cell).long().clamp_(max=cols - 1)
    # Empty cells all around spare the edges a case of their own; infinity: no return.
    index = (row + REACH) * (cols + 2) + (col + 1)
    nearest = depth.new_full(((rows + 2 * REACH) * (cols + 2),), torch.inf).scatter_reduce_(0, index, depth, "amin")
    nearest = nearest.view(rows + 2 * REACH, cols + 2)
    # One cell to each side bridges the gaps between the returns of a ring.
    nearest = _least(nearest[:, step : step + cols] for step in range(3))
    above = _least(nearest[step : step + rows] for step in range(REACH))
    below = _least(nearest[step : step + rows] for step in range(REACH + 1, 2 * REACH + 1))
    surface = torch.maximum(above, below).view(-1).index_select(0, row * cols + col)
    return depth > surface + (surface * TOLERANCE_SHARE).clamp_(min=TOLERANCE_M)


def _least(grids: Iterable[Tensor]) -> Tensor:
    return reduce(torch.minimum, grids)
