"""Rigid transforms as (4, 4) matrices. Quaternions are x, y, z, w, as in ROS messages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_TOLERANCE = 1e-4  # on R R^T = I: calibration files have about six digits
_MAX_TRANSLATION = 1e9  # metres along an axis: beyond any place on Earth, and sums stay finite


def transform(translation: Sequence[float] | np.ndarray, quaternion: Sequence[float] | np.ndarray) -> np.ndarray:
    """(4, 4) float64 of a translation (3,), metres, and a quaternion (4,) of any length; ValueError for others."""
    t, q = np.asarray(translation, np.float64), np.asarray(quaternion, np.float64)
    if t.shape != (3,) or not (np.abs(t) <= _MAX_TRANSLATION).all():
        raise ValueError(f"translation {translation} is not three numbers x, y, z in metres, up to "
                         f"{_MAX_TRANSLATION:g}")
    length = np.linalg.norm(q) if q.shape == (4,) else np.nan
    if not np.isfinite(length) or length < 1e-9:
        raise ValueError(f"quaternion {quaternion} is no rotation: expected four finite numbers x, y, z, w, not all "
                         "zero (0, 0, 0, 1 for none)")
    x, y, z, w = q / length
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), t[0]],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), t[1]],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), t[2]],
        [0.0, 0.0, 0.0, 1.0],
    ])


def transform_of(stamped) -> np.ndarray:
    """(4, 4) float64 of a geometry_msgs/TransformStamped: parent from child. Raises ValueError if it is not rigid."""
    t, q = stamped.transform.translation, stamped.transform.rotation
    return transform((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def validated(matrix: Sequence | np.ndarray) -> np.ndarray:
    """The matrix (4, 4) as float64. Raises ValueError with the reason if it is no rigid transform."""
    m = np.asarray(matrix, np.float64)
    if m.shape != (4, 4) or not np.isfinite(m).all():
        raise ValueError(f"a rigid transform is a (4, 4) matrix of finite numbers, got shape {m.shape}:\n{m}")
    if not (np.abs(m[:3, 3]) <= _MAX_TRANSLATION).all():
        raise ValueError(f"the translation is {m[:3, 3]} metres, expected up to {_MAX_TRANSLATION:g} along each axis")
    if not np.allclose(m[3], (0, 0, 0, 1), atol=1e-9):
        raise ValueError(f"the last row of a rigid transform is 0 0 0 1, got {m[3]}: is the matrix transposed?")
    rotation = m[:3, :3]
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > _TOLERANCE:
        raise ValueError(f"the rotation is not orthonormal (R R^T differs from I by {error:.2g}):\n{rotation}")
    if np.linalg.det(rotation) < 0:
        raise ValueError(f"the rotation mirrors (its determinant is -1): swap or negate an axis\n{rotation}")
    return m


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse (4, 4) float64 of a rigid transform (4, 4). Raises ValueError if it is none."""
    m = validated(matrix)
    result = np.eye(4)
    result[:3, :3] = m[:3, :3].T
    result[:3, 3] = -m[:3, :3].T @ m[:3, 3]
    return result


def apply(matrix: np.ndarray, points: Tensor) -> Tensor:
    """Transform points (N, 3) by a matrix (4, 4). The result has their type and device."""
    rotation = torch.as_tensor(matrix[:3, :3].copy(), dtype=points.dtype, device=points.device)
    translation = torch.as_tensor(matrix[:3, 3:].copy(), dtype=points.dtype, device=points.device)
    # (3, 3) @ (3, N) is several times faster than (N, 3) @ (3, 3), and leaves x, y and z contiguous.
    return torch.addmm(translation, rotation, points.T).T
