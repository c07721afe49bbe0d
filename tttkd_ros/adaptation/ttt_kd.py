"""TTT-KD, algorithm 1 of arXiv 2403.11691, and nothing else: project, sample, distil, descend.

The numbers of equations are those of docs/method.md.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.voxels import Voxels
from tttkd_ros.segmenter.weights import total_norm


@dataclass(frozen=True, eq=False)
class Sample:
    """The M points of a cloud that a camera sees."""

    voxels: Voxels  # of the whole cloud
    voxel: Tensor  # (M,) int64, the voxel of each point
    patch: Tensor  # (M,) int64, the row of `table` that each point projects to
    table: Tensor  # (views * rows * columns, D), the teacher's patch features minus the student's `teacher_mean`
    grid: tuple[int, int]  # rows and columns of the patches of a view

    def __len__(self) -> int:
        return len(self.voxel)


def distillation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return L_2D (3): the negative cosine similarity of rho_2D's output and the teacher's features, both (M, D), mean
    over points. Targets are centred, because raw features of a ViT all point in much the same direction."""
    return -cosine_similarity(predicted, target, dim=1).mean()


def configure(student: Student) -> list[nn.Parameter]:
    """Make a student trainable and return the parameters to train: those of the backbone, BatchNorm's affine ones
    included. Both projectors are frozen, and BatchNorm uses its running statistics. Convolutions stay in train mode,
    because spconv's kernels bypass autograd in eval mode (spconv issues 668, 675)."""
    student.requires_grad_(False).train()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    student.backbone.requires_grad_(True)
    return list(student.backbone.parameters())


class TTTKD:
    """A private copy of a student, trained on the self-supervised task of algorithm 1. generator: of all draws."""

    def __init__(self, student: Student, teacher: Teacher, generator: torch.Generator):
        self.student, self.teacher, self.generator = copy.deepcopy(student), teacher, generator
        self.parameters = configure(self.student)
        # Not at the first step: torch.optim then imports torch._dynamo, which blocks all threads for a second.
        self.optimiser = torch.optim.SGD(self.parameters, lr=1.0)

    def project(self, frame: Frame, in_range: Tensor, voxels: Voxels) -> Sample:
        """Project the points of a frame on patches, pi of (3). in_range: (N,) bool, the points that `voxels` has."""
        device = voxels.indices.device
        targets = teacher_targets(frame, self.teacher, self.generator)
        seen = in_range[targets.index]
        index = (in_range.cumsum(0) - 1)[targets.index[seen]].to(device)  # from all points to those in range
        patch = targets.patch[seen.to(targets.patch.device)].to(device)
        table = targets.table.to(device) - self.student.teacher_mean
        return Sample(voxels, voxels.inverse[index], patch, table, targets.grid)

    def features(self, sample: Sample) -> Tensor:
        """Return (M, channels), the backbone's features (1) of the sampled points."""
        return self.student.voxel_features(sample.voxels)[sample.voxel]

    def descend(
        self, features: Tensor, sample: Sample, candidates: Tensor, count: int, learning_rate: Callable[[float], float]
    ) -> tuple[float, float]:
        """Take one step (4) on at most `count` of the candidates, and return its loss and its gradient norm.

        features: of `sample`. candidates: (C,) int64, rows of the sample. learning_rate: from the gradient norm.
        Raises FloatingPointError if the loss or the gradient is not finite; the weights are unchanged then.
        """
        drawn = candidates[torch.randperm(len(candidates), generator=self.generator)[:count].to(candidates.device)]
        predicted = self.student.predict_teacher_features(features[drawn])  # rho_2D
        loss = distillation_loss(predicted, sample.table[sample.patch[drawn]])
        if not torch.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        self.optimiser.zero_grad()
        loss.backward()
        norm = total_norm(parameter.grad for parameter in self.parameters)
        if not math.isfinite(norm):
            raise FloatingPointError("the gradient is not finite")
        self.optimiser.param_groups[0]["lr"] = learning_rate(norm)
        self.optimiser.step()
        return loss.item(), norm
