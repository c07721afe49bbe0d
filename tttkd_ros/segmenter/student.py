"""The student: sparse backbone psi_3D with the two projectors rho_Y (classes) and rho_2D (teacher features)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tttkd_ros.classes import CLASS_SETS, ClassSet
from tttkd_ros.segmenter.unet import SparseUNet
from tttkd_ros.segmenter.voxels import GRID, Voxels, in_grid, in_nearest_voxels, voxelise

MAX_VOXELS = 250_000  # of a sweep: five times those of a 64-ring sensor; they take 2 GB and some seconds
MAX_SIZE = 2**16 - 1  # of a model's dimensions, so that its parameters can be counted


@dataclass(frozen=True)
class StudentConfig:
    """Everything that a checkpoint must state for its weights to have a meaning. Raises ValueError for bad values."""

    class_set: str = "outdoor10"
    voxel_size: float = 0.1  # metres
    base_channels: int = 16  # features of the U-Net's first level
    levels: int = 7
    repetitions: int = 1
    head_width: int = 64  # hidden features of each projector
    teacher_dim: int = 192  # width of the teacher's features
    teacher_input: tuple[int, int] = (140, 392)  # (height, width) in pixels of its images in joint training
    teacher_name: str = ""

    def __post_init__(self):
        if not isinstance(self.class_set, str) or self.class_set not in CLASS_SETS:
            raise ValueError(f"class set {self.class_set!r} is unknown, expected one of {', '.join(CLASS_SETS)}")
        if not isinstance(self.voxel_size, (int, float)) or not 0 < self.voxel_size < float("inf"):
            raise ValueError(f"voxel_size is {self.voxel_size!r}, expected metres above 0")
        for name in ("base_channels", "levels", "repetitions", "head_width", "teacher_dim"):
            if not _is_size(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a whole number from 1 to {MAX_SIZE}")
        if 2 ** (self.levels - 1) > GRID:
            raise ValueError(f"levels is {self.levels}, but a grid of {GRID} voxels cannot be halved so often")
        size = self.teacher_input
        if not isinstance(size, tuple) or len(size) != 2 or not all(_is_size(side) for side in size):
            raise ValueError(f"teacher_input is {size!r}, expected height and width in pixels")
        if not isinstance(self.teacher_name, str):
            raise ValueError(f"teacher_name is {self.teacher_name!r}, expected text")

    @property
    def classes(self) -> ClassSet:
        return CLASS_SETS[self.class_set]


def _is_size(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_SIZE


class Student(nn.Module):
    """Computes features of points, and class logits and teacher features from these.

    teacher_mean: (teacher_dim,) buffer, the teacher's mean feature on the source domain, which targets are centred by.
    """

    simulated = False  # whether it was trained in simulation; `load_student` sets it

    def __init__(self, config: StudentConfig):
        super().__init__()
        self.config = config
        self.backbone = SparseUNet(config.base_channels, config.levels, config.repetitions)
        self.class_head = _projector(config.base_channels, config.head_width, len(config.classes))
        self.teacher_head = _projector(config.base_channels, config.head_width, config.teacher_dim)
        self.register_buffer("teacher_mean", torch.zeros(config.teacher_dim))

    def forward(self, points: Tensor | Sequence[Tensor], offsets: Sequence[Tensor] | None = None) -> Tensor:
        """Compute features (sum N, base_channels) of a cloud (N, 3), metres, LiDAR frame, or of a batch of clouds.

        offsets: see `voxelise`. Raises ValueError if the points of a cloud do not fit into one grid, see `in_range`."""
        voxels = self.voxels(points, offsets)
        return self.voxel_features(voxels)[voxels.inverse]

    def voxels(self, points: Tensor | Sequence[Tensor], offsets: Sequence[Tensor] | None = None) -> Voxels:
        """Voxelise a cloud or a batch for any number of passes. Takes and raises what `forward` does."""
        clouds = [points] if isinstance(points, Tensor) else points
        return voxelise(clouds, self.config.voxel_size, 2 ** (self.config.levels - 1), offsets)

    def voxel_features(self, voxels: Voxels) -> Tensor:
        """Compute features (V, base_channels). All points of a voxel share them, so the heads need only these rows."""
        if not len(voxels):
            return torch.zeros(0, self.config.base_channels, device=self.teacher_mean.device)
        return self.backbone(voxels)

    def in_range(self, points: Tensor, rotations: Sequence[Tensor] = ()) -> Tensor:
        """Find the points (N, 3), metres, LiDAR frame, that can be segmented; return (N,) bool.

        rotations: (3, 3) each, by which the cloud will be rotated as well.

        They are in the grid around the sensor, and not at (0, 0, 0), which drivers send for a beam without a return. If
        they occupy more than `MAX_VOXELS` voxels, only the nearest voxels count.
        """
        in_range = self.in_grid(points)
        x, y, z = points.T
        in_range &= (x != 0) | (y != 0) | (z != 0)
        if int(in_range.sum()) > MAX_VOXELS:
            in_range[in_range.clone()] = in_nearest_voxels(points[in_range], self.config.voxel_size, MAX_VOXELS)
        for rotation in rotations:
            in_range &= self.in_grid(points @ rotation)
        return in_range

    def in_grid(self, points: Tensor) -> Tensor:
        """Find the points (N, 3) that are finite and within `max_range`; return (N,) bool."""
        return in_grid(points, self.config.voxel_size)

    @property
    def max_range(self) -> float:
        """Metres from the sensor along each axis within which points can be segmented."""
        return (GRID // 2 - 1) * self.config.voxel_size

    def logits(self, features: Tensor) -> Tensor:
        """rho_Y: class logits (M, classes) of features (M, base_channels)."""
        return self.class_head(features)

    def predict_teacher_features(self, features: Tensor) -> Tensor:
        """rho_2D: (M, teacher_dim), the teacher's features minus `teacher_mean`, of features (M, base_channels)."""
        return self.teacher_head(features)


def _projector(width: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
