"""Projection of LiDAR points to a camera's pixels and the teacher's patches, without the points that it cannot see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.geometry.camera import CameraModel, flatnonzero
from tttkd_ros.geometry.transforms import apply

# The z-buffer. A cell holds a few returns of a 64-ring sensor. WINDOW spans the gap between the rings of a 32-ring one
# (1.3 degrees, 29 pixels of a 1,600-pixel image), so that points behind a surface are not visible through the gap.
CELLS_ACROSS = 200  # cells in an image's width
WINDOW = 4  # cells above and below that are compared
TOLERANCE_M = 0.5  # points nearer by less than this belong to the same surface ...
TOLERANCE_RELATIVE = 0.05  # ... and so do points nearer by less than this fraction of the distance


@dataclass(frozen=True, eq=False)
class Projection:
    """pixels: (N, 2) float32 as (u, v). depth: (N,) float32, metres from the camera's centre along the ray (a fisheye
    sees beyond 90 degrees, where z is negative), NaN outside the image. visible: (N,) bool."""

    pixels: Tensor
    depth: Tensor
    visible: Tensor


def project(points: Tensor, camera: CameraModel, camera_from_lidar: np.ndarray, *,
            occlusion: bool = True) -> Projection:
    """Project points (N, 3), metres, LiDAR frame, on any device, into an image by camera_from_lidar (4, 4).

    Points that are not finite are never visible, nor with `occlusion` those behind a nearer surface.
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
    """The patch (N,) int64 of each point, row * cols + col, -1 if it is not visible (DITR section 3.1).

    row = floor(v / H * rows), col = floor(u / W * cols). grid: the teacher's patches (rows, cols) over the whole image.
    """
    rows, cols = grid
    u, v = projection.pixels.nan_to_num().unbind(1)
    # A pixel just inside the image's edge can round to the edge.
    row = (v * (rows / camera.height)).long().clamp_(max=rows - 1)
    col = (u * (cols / camera.width)).long().clamp_(max=cols - 1)
    return torch.where(projection.visible, row * cols + col, -1)


def _hidden(u: Tensor, v: Tensor, depth: Tensor, camera: CameraModel) -> Tensor:
    """u, v (M,) inside the image, depth (M,) -> (M,) bool, true for points behind a nearer surface.

    A surface is in front of a point if there are nearer returns both above and below it within `WINDOW` cells. Both are
    required because the ground under a point is nearer than the point, however grazing the view.
    """
    cell = max(camera.width / CELLS_ACROSS, 1.0)
    rows, cols = math.ceil(camera.height / cell), math.ceil(camera.width / cell)
    row, col = (v / cell).long().clamp_(max=rows - 1), (u / cell).long().clamp_(max=cols - 1)
    # A border of empty cells (infinity) avoids special cases at the edges.
    index = (row + WINDOW) * (cols + 2) + (col + 1)
    nearest = depth.new_full(((rows + 2 * WINDOW) * (cols + 2),), torch.inf).scatter_reduce_(0, index, depth, "amin")
    nearest = nearest.view(rows + 2 * WINDOW, cols + 2)
    # One cell to each side closes the gaps between the returns of a ring.
    nearest = reduce(torch.minimum, (nearest[:, step : step + cols] for step in range(3)))
    above = reduce(torch.minimum, (nearest[step : step + rows] for step in range(WINDOW)))
    below = reduce(torch.minimum, (nearest[step : step + rows] for step in range(WINDOW + 1, 2 * WINDOW + 1)))
    surface = torch.maximum(above, below).view(-1).index_select(0, row * cols + col)
    return depth > surface + (surface * TOLERANCE_RELATIVE).clamp_(min=TOLERANCE_M)
