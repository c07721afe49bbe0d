"""The student: sparse backbone psi_3D with the two projectors rho_Y (classes) and rho_2D (teacher features)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tttkd_ros.classes import CLASS_SETS, ClassSet
from tttkd_ros.segmenter.unet import SparseUNet
from tttkd_ros.segmenter.voxels import GRID, Voxels, in_grid, nearest, voxelise

# Occupied voxels that a sweep may have: five times those of a 64-ring sensor's. So many take 2 GB and some seconds.
MAX_VOXELS = 250_000
LARGEST = 2**16 - 1  # of a model's sizes: so that the numbers in it can be counted


@dataclass(frozen=True)
class StudentConfig:
    """What a checkpoint must state for its weights to mean anything.

    voxel_size in metres. teacher_dim: width of the teacher's features. teacher_input: (height, width) in pixels that
    the teacher's images had in joint training; teacher_name: which teacher that was.
    """

    class_set: str = "outdoor10"
    voxel_size: float = 0.1
    base_channels: int = 16
    levels: int = 7
    repetitions: int = 1
    head_width: int = 64
    teacher_dim: int = 192
    teacher_input: tuple[int, int] = field(default=(140, 392))
    teacher_name: str = ""

    def __post_init__(self):
        if not isinstance(self.class_set, str) or self.class_set not in CLASS_SETS:
            raise ValueError(f"class set {self.class_set!r} is unknown, expected one of {', '.join(CLASS_SETS)}")
        if not isinstance(self.voxel_size, (int, float)) or not 0 < self.voxel_size < float("inf"):
            raise ValueError(f"voxel_size is {self.voxel_size!r}, expected metres above 0")
        for name in ("base_channels", "levels", "repetitions", "head_width", "teacher_dim"):
            if not _counts(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a whole number from 1 to {LARGEST}")
        if 2 ** (self.levels - 1) > GRID:
            raise ValueError(f"levels is {self.levels}, but the grid of {GRID} voxels can be halved so often only")
        size = self.teacher_input
        if not isinstance(size, tuple) or len(size) != 2 or not all(_counts(side) for side in size):
            raise ValueError(f"teacher_input is {size!r}, expected height and width in pixels")
        if not isinstance(self.teacher_name, str):
            raise ValueError(f"teacher_name is {self.teacher_name!r}, expected text")

    @property
    def classes(self) -> ClassSet:
        return CLASS_SETS[self.class_set]


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


class Student(nn.Module):
    """Per-point features, and what the two projectors make of them.

    teacher_mean: (teacher_dim,) buffer, the teacher's mean feature on the source domain; targets are centred with it.
    simulated: its checkpoint says that it was trained in simulation; `load_student` sets it.
    """

    simulated = False

    def __init__(self, config: StudentConfig):
        super().__init__()
        self.config = config
        self.backbone = SparseUNet(config.base_channels, config.levels, config.repetitions)
        self.class_head = _projector(config.base_channels, config.head_width, len(config.classes))
        self.teacher_head = _projector(config.base_channels, config.head_width, config.teacher_dim)
        self.register_buffer("teacher_mean", torch.zeros(config.teacher_dim))

    def forward(self, points: Tensor | Sequence[Tensor]) -> Tensor:
        """(sum N, base_channels) features of a cloud (N, 3), or of a batch of clouds one after the other.

        Raises ValueError for points that do not fit into one grid: see `usable`.
        """
        voxels = self.voxels(points)
        return self.voxel_features(voxels)[voxels.inverse]

    def voxels(self, points: Tensor | Sequence[Tensor]) -> Voxels:
        """The voxels of a cloud or a batch, for any number of passes over them. Raises ValueError as `forward` does."""
        clouds = [points] if isinstance(points, Tensor) else points
        return voxelise(clouds, self.config.voxel_size, multiple=2 ** (self.config.levels - 1))

    def voxel_features(self, voxels: Voxels) -> Tensor:
        """(V, base_channels). All points of a voxel share its features, so that the heads need only these rows."""
        if not len(voxels):
            return torch.zeros(0, self.config.base_channels, device=self.teacher_mean.device)
        return self.backbone(voxels)

    def in_range(self, points: Tensor) -> Tensor:
        """(N,) bool: points (N, 3), metres, LiDAR frame, that can be segmented.

        They are finite, within reach of the grid around the sensor, and not at (0, 0, 0), which is how drivers send a
        beam without a return. Of points that occupy more than `MAX_VOXELS` voxels, the nearest are usable.
        """
        usable = self.in_grid(points)
        x, y, z = points.T
        usable &= (x != 0) | (y != 0) | (z != 0)
        if int(usable.sum()) > MAX_VOXELS:
            usable[usable.clone()] = nearest(points[usable], self.config.voxel_size, MAX_VOXELS)
        return usable

    def in_grid(self, points: Tensor) -> Tensor:
        """(N,) bool: points (N, 3) that are finite and within `reach`."""
        return in_grid(points, self.config.voxel_size)

    @property
    def max_range(self) -> float:
        """Metres from the sensor along an axis beyond which points are not usable."""
        return (GRID // 2 - 1) * self.config.voxel_size

    def logits(self, features: Tensor) -> Tensor:
        """rho_Y: (M, classes)."""
        return self.class_head(features)

    def predict_teacher_features(self, features: Tensor) -> Tensor:
        """rho_2D: (M, teacher_dim), to be compared with the teacher's features minus `teacher_mean`."""
        return self.teacher_head(features)


def _projector(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
