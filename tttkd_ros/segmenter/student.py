"""The student: 3D backbone psi_3D with the two projectors rho_Y (classes) and rho_2D (teacher features)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.features import WIDTHS, select
from tttkd_ros.segmenter import backbones
from tttkd_ros.segmenter.backbones.base import MAX_SIZE, Prepared
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.injection import INJECTIONS, Injection
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.voxels import GRID, in_grid, in_nearest_voxels

MAX_VOXELS = 250_000  # of a sweep: five times those of a 64-ring sensor; they take 2 GB and some seconds


@dataclass(frozen=True)
class StudentConfig:
    """Everything that a checkpoint must state for its weights to have a meaning. Raises ValueError for bad values."""

    class_set: ClassSet = OUTDOOR
    voxel_size: float = 0.1  # metres
    backbone: str = "scn"
    options: Mapping[str, object] = field(default_factory=dict)  # of the backbone; those not given have their defaults
    inputs: Mapping[str, float] = field(default_factory=dict)  # feature -> what its values are multiplied by
    head_width: int = 64  # hidden features of each projector; 0 for linear ones
    teacher_dim: int = 192  # width of the teacher's features; 0 for a student that cannot adapt to one
    teacher_input: tuple[int, int] = (140, 392)  # (height, width) in pixels of its images in joint training
    teacher_name: str = ""
    injection: str = ""  # where the teacher's image features are added, one of `INJECTIONS`; empty for nowhere
    image_dim: int = 0  # width of these features

    def __post_init__(self):
        if not isinstance(self.class_set, ClassSet):
            raise ValueError(f"class_set is {self.class_set!r}, expected a ClassSet such as load_class_set returns")
        if not isinstance(self.voxel_size, (int, float)) or not 0 < self.voxel_size < float("inf"):
            raise ValueError(f"voxel_size is {self.voxel_size!r}, expected metres above 0")
        object.__setattr__(self, "options", backbones.complete(self.backbone, self.options))
        for name in ("head_width", "teacher_dim"):
            value = getattr(self, name)
            if value != 0 and not _is_size(value):
                raise ValueError(f"{name} is {value!r}, expected a whole number from 0 to {MAX_SIZE}")
        if not isinstance(self.inputs, Mapping) or not all(
            name in WIDTHS and type(scale) in (int, float) and 0 < abs(scale) < float("inf")
            for name, scale in self.inputs.items()
        ):
            raise ValueError(f"inputs is {self.inputs!r}, expected a number that is not 0 for some of "
                             f"{', '.join(WIDTHS)}")
        size = self.teacher_input
        if not isinstance(size, tuple) or len(size) != 2 or not all(_is_size(side) for side in size):
            raise ValueError(f"teacher_input is {size!r}, expected height and width in pixels")
        if not isinstance(self.teacher_name, str):
            raise ValueError(f"teacher_name is {self.teacher_name!r}, expected text")
        if self.injection not in ("", *INJECTIONS):
            raise ValueError(f"injection is {self.injection!r}, expected one of {', '.join(INJECTIONS)}, or nothing")
        if self.image_dim != 0 and not _is_size(self.image_dim) or bool(self.image_dim) != bool(self.injection):
            raise ValueError(f"image_dim is {self.image_dim!r} and injection {self.injection!r}, expected a whole "
                             f"number up to {MAX_SIZE} if, and only if, features are injected")
        if self.image_dim and self.teacher_dim not in (0, self.image_dim):
            raise ValueError(f"image_dim is {self.image_dim} and teacher_dim {self.teacher_dim}, expected those of one "
                             "teacher")

    @property
    def plain(self) -> dict[str, object]:
        """The settings as values that JSON can hold. The class set is its name."""
        return asdict(self) | {"class_set": self.class_set.name}


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
        inputs = sum(WIDTHS[name] for name in config.inputs)
        self.backbone = backbones.build(config.backbone, config.options, inputs, config.voxel_size)
        if config.injection:
            if not self.backbone.places:
                raise ValueError(f"injection is {config.injection!r}, but backbone {config.backbone} takes no image "
                                 "features: choose another backbone")
            self.backbone.injection = Injection(config.injection, config.image_dim, self.backbone.places)
        width = self.backbone.channels
        self.class_head = _projector(width, config.head_width, len(config.class_set))
        if config.teacher_dim:
            self.teacher_head = _projector(width, config.head_width, config.teacher_dim)
        self.register_buffer("teacher_mean", torch.zeros(config.teacher_dim))

    def forward(self, points: Points | Tensor | Sequence, offsets: Sequence[Tensor] | None = None) -> Tensor:
        """Compute features (sum N, channels) of a cloud or of a batch of clouds; see `prepare`."""
        prepared = self.prepare(points, offsets)
        return self.row_features(prepared)[prepared.row]

    def points(self, xyz: np.ndarray, features: Mapping[str, np.ndarray] | None = None,
               images: ImageFeatures | None = None) -> Points:
        """Copy a cloud with those of its features that this student takes.

        xyz: (N, 3), metres, z up. features: (N,) or (N, C) each. images: see `prepare`. Raises ValueError if a feature
        is missing.
        """
        chosen = select(self.config.inputs, xyz, features or {})
        # A copy, because the arrays of a message or a bag are read-only.
        return Points(torch.tensor(xyz), {name: torch.tensor(values) for name, values in chosen.items()}, images)

    def prepare(self, points: Points | Tensor | Sequence[Points | Tensor],
                offsets: Sequence[Tensor] | None = None) -> Prepared:
        """Prepare clouds for any number of passes.

        points: one cloud or several; a tensor (N, 3) has no features. Image features are taken if there is an injection
        for them; points without any count as seen by no camera. offsets: see `Backbone.prepare`. Raises ValueError if
        the points of a cloud do not fit into one grid, see `in_range`.
        """
        clouds = [points] if isinstance(points, (Points, Tensor)) else points
        clouds = [Points(cloud) if isinstance(cloud, Tensor) else cloud for cloud in clouds]
        inputs = [self._inputs(cloud) for cloud in clouds] if self.config.inputs else None
        images = {"images": self._images(clouds)} if self.config.injection and clouds else {}
        return self.backbone.prepare([cloud.xyz for cloud in clouds], inputs, offsets, **images)

    def row_features(self, prepared: Prepared) -> Tensor:
        """Compute features (rows, channels). The points of a row share them, so the heads need only the rows."""
        if not len(prepared):
            return torch.zeros(0, self.backbone.channels, device=self.teacher_mean.device)
        return self.backbone(prepared)

    def _inputs(self, points: Points) -> Tensor:
        values = {"position": points.xyz, **points.features}
        return torch.cat([values[name] * scale for name, scale in self.config.inputs.items()], 1)

    def _images(self, clouds: Sequence[Points]) -> ImageFeatures:
        dim, device = self.config.image_dim, self.teacher_mean.device
        for cloud in clouds:
            if cloud.images is not None and cloud.images.table.shape[1] != dim:
                raise ValueError(f"the image features have {cloud.images.table.shape[1]} numbers, but the student was "
                                 f"trained with {dim} ({self.config.teacher_name or 'unnamed'}); use that teacher")
        return ImageFeatures.joined([ImageFeatures.none(len(cloud), dim, device) if cloud.images is None
                                     else cloud.images for cloud in clouds])

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

    @property
    def coarsest_cell(self) -> float:
        """Metres, the edge of a cell of the backbone's coarsest level."""
        return self.config.voxel_size * self.backbone.cell

    def logits(self, features: Tensor) -> Tensor:
        """rho_Y: class logits (M, classes) of features (M, channels)."""
        return self.class_head(features)

    def predict_teacher_features(self, features: Tensor) -> Tensor:
        """rho_2D: (M, teacher_dim), the teacher's features minus `teacher_mean`, of features (M, channels)."""
        return self.teacher_head(features)


def _projector(width: int, hidden: int, out: int) -> nn.Module:
    if not hidden:
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, out))
