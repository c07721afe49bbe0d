"""What a student is trained on: the loss of a batch, as one module, so that processes can share its gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.foundation_model import FoundationModel
from tttkd_ros.training.batches import Batch
from tttkd_ros.training.losses import cross_entropy, distillation, lovasz_softmax

Stage = Literal["joint", "distil", "classify", "head"]


@dataclass(frozen=True)
class LossSettings:
    """distillation, lovasz: weights of L_2D and of the Lovasz-Softmax loss beside the cross-entropy."""

    distillation: float = 1.0
    lovasz: float = 0.0
    label_smoothing: float = 0.0


class Objective(nn.Module):
    """The losses of a student in one stage of its training.

    Args:
        stage: "joint" trains on labels and the teacher's features; "distil" on the latter alone; "classify" trains the
            class head on labels, and the backbone is frozen; "head" trains rho_2D on the teacher's features, and all
            else is frozen.
        weights: (classes,) of the cross-entropy, or None.
        teacher: computes the features of the batches' images if they have no table.
    """

    def __init__(self, student: Student, stage: Stage, settings: LossSettings, weights: Tensor | None = None,
                 teacher: FoundationModel | None = None):
        super().__init__()
        self.student, self.settings, self.teacher = student, settings, teacher
        self.labelled = stage in ("joint", "classify")
        self.distilled = stage in ("distil", "head") or (stage == "joint" and settings.distillation > 0)
        self.register_buffer("weights", weights)
        student.requires_grad_(True)
        self.frozen = stage in ("classify", "head")
        student.backbone.requires_grad_(not self.frozen)
        student.class_head.requires_grad_(self.labelled)
        if student.config.teacher_dim:
            student.teacher_head.requires_grad_(self.distilled)

    def train(self, mode: bool = True) -> Objective:
        super().train(mode)
        if self.frozen:
            self.student.backbone.eval()  # BatchNorm keeps its statistics
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the "loss", and the parts of it that are in use."""
        table = self._table(batch)
        features = self._features(batch, table)
        if features is None:
            touched = sum(parameter.sum() for parameter in self.parameters() if parameter.requires_grad)
            return {"loss": touched * 0}
        losses, loss = {}, 0.0
        if self.labelled:
            logits = self.student.logits(features).float()
            losses["labels"] = cross_entropy(logits, batch.labels, self.weights, self.settings.label_smoothing)
            loss = losses["labels"]
            if self.settings.lovasz:
                losses["lovasz"] = lovasz_softmax(logits, batch.labels)
                loss = loss + self.settings.lovasz * losses["lovasz"]
        if self.distilled:
            predicted = self.student.predict_teacher_features(features[batch.visible]).float()
            losses["distillation"] = distillation(predicted, table[batch.patch] - self.student.teacher_mean)
            loss = loss + (self.settings.distillation if self.labelled else 1.0) * losses["distillation"]
        return {"loss": loss, **{name: value.detach() for name, value in losses.items()}}

    def _features(self, batch: Batch, table: Tensor | None) -> Tensor | None:
        """Return (sum N, channels), or None if there are so few points that BatchNorm has no statistics."""
        student = self.student
        prepared = student.prepare(batch.clouds(table), list(batch.offsets))
        if not len(prepared) or student.backbone.coarse_cells(prepared) < 2:
            return None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen), _backbone_precision(batch.xyz.device):
            return student.row_features(prepared)[prepared.row].float()

    def _table(self, batch: Batch) -> Tensor | None:
        """Return the teacher's features (P, dim) float32, see `Batch`; None without a teacher."""
        if batch.images is not None:
            return self.teacher.of_resized(batch.images).flatten(0, 2).float()
        return None if batch.table is None else batch.table.float()


def _backbone_precision(device: torch.device) -> AbstractContextManager:
    """Keep autocast for float16 alone: spconv has no bfloat16."""
    kind = device.type
    enabled = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
    return torch.autocast(kind, torch.float16 if enabled else torch.get_autocast_dtype(kind), enabled=enabled)
