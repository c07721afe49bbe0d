"""TTT-KD, algorithm 1 of arXiv 2403.11691, and nothing else: project, rotate, sample, distil, descend.

The numbers of equations are those of docs/method.md.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.backbones.base import Prepared, gradients_only
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.voxels import rotation
from tttkd_ros.segmenter.weights import total_norm


@dataclass(frozen=True, eq=False)
class Scene:
    """A cloud, and the M of its points that a camera sees. Its targets and inputs are computed once for all steps."""

    points: Points  # N of them, z up
    index: Tensor  # (M,) int64, the rows of `points` that a camera sees
    patch: Tensor  # (M,) int64, the row of `table` that each of them projects to
    table: Tensor  # (views * rows * columns, D), the teacher's patch features minus the student's `teacher_mean`
    grid: tuple[int, int]  # rows and columns of the patches of a view
    prepared: dict[float, Prepared] = field(default_factory=dict)  # by rotation, full turns about the vertical

    def __len__(self) -> int:
        return len(self.index)


def distillation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return L_2D (3): the negative cosine similarity of rho_2D's output and the teacher's features, both (M, D), mean
    over points. Targets are centred, because raw features of a ViT all point in much the same direction."""
    return -cosine_similarity(predicted, target, dim=1).mean()


def configure(student: Student) -> list[nn.Parameter]:
    """Make a student trainable and return the parameters to train: those of the backbone, the norms' affine ones
    included. Both projectors and an injection are frozen, and BatchNorm uses its running statistics."""
    gradients_only(student.requires_grad_(False))
    parameters = [each for name, each in student.backbone.named_parameters() if not name.startswith("injection.")]
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters


class TTTKD:
    """A private copy of a student, trained on the self-supervised task of algorithm 1. generator: of all draws."""

    def __init__(self, student: Student, teacher: Teacher, generator: torch.Generator):
        self.student, self.teacher, self.generator = copy.deepcopy(student), teacher, generator
        self.parameters = configure(self.student)
        # Not at the first step: torch.optim then imports torch._dynamo, which blocks all threads for a second.
        self.optimiser = torch.optim.SGD(self.parameters, lr=1.0)

    def project(self, frame: Frame, points: Points, in_range: Tensor) -> Scene:
        """Project the points of a frame on patches, pi of (3). points: N, those in the mask `in_range`."""
        device, targets = points.xyz.device, teacher_targets(frame, self.teacher, self.generator)
        seen = in_range[targets.index]
        index = (in_range.cumsum(0) - 1)[targets.index[seen]].to(device)  # from all points to those in range
        patch = targets.patch[seen.to(targets.patch.device)].to(device)
        # With its image features as an input, a student would have nothing to predict.
        table = targets.table.to(device) - self.student.teacher_mean
        return Scene(points.without_images(), index, patch, table, targets.grid)

    def features(self, scene: Scene, turns: float = 0.0) -> Tensor:
        """Return (M, channels), the backbone's features (1) of the visible points of the rotated scene."""
        if turns not in scene.prepared:
            points = scene.points.transformed(rotation(2 * math.pi * turns)) if turns else scene.points
            scene.prepared[turns] = self.student.prepare(points)
        prepared = scene.prepared[turns]
        return self.student.row_features(prepared)[prepared.row[scene.index]]

    def descend(self, features: Tensor, scene: Scene, count: int, learning_rate: float) -> tuple[float, float]:
        """Take one step (4) on at most `count` of the visible points; return its loss and its gradient norm.

        features: (M, channels), of `scene`. learning_rate: see `Backbone.rate_scale`. Raises FloatingPointError if the
        loss or the gradient is not finite; the weights are unchanged then."""
        drawn = torch.randperm(len(scene), generator=self.generator)[:count].to(features.device)
        predicted = self.student.predict_teacher_features(features[drawn])  # rho_2D
        loss = distillation_loss(predicted, scene.table[scene.patch[drawn]])
        if not torch.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        self.optimiser.zero_grad()
        loss.backward()
        norm = total_norm(parameter.grad for parameter in self.parameters)
        if not math.isfinite(norm):
            raise FloatingPointError("the gradient is not finite")
        self.optimiser.param_groups[0]["lr"] = learning_rate * self.student.backbone.rate_scale
        self.optimiser.step()
        return loss.item(), norm
