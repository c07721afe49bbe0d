"""Points drawn on an image."""

from __future__ import annotations

import numpy as np
import torch

from tttkd_ros.frame import View
from tttkd_ros.geometry.projection import project


def draw_points(view: View, points: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Draw every visible point as a square, near ones over far ones.

    Args:
        view: gives the image.
        points: (N, 3) float32, metres, LiDAR frame.
        colours: (N, 3) uint8.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    image = view.image.copy()
    height, width = image.shape[:2]
    projection = project(torch.from_numpy(points), view.camera, view.camera_from_lidar)
    visible = projection.visible.numpy()
    columns, rows = projection.pixels.numpy()[visible].astype(np.int64).T
    order = np.argsort(-projection.depth.numpy()[visible], kind="stable")  # the last write to a pixel stays
    columns, rows, colours = columns[order], rows[order], colours[visible][order]
    size = max(1, width // 640)
    for down in range(-size, size + 1):
        for right in range(-size, size + 1):
            image[np.clip(rows + down, 0, height - 1), np.clip(columns + right, 0, width - 1)] = colours
    return image
