"""TTT-KD: test-time training by distillation from a frozen 2D foundation model (arXiv 2403.11691)."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tttkd_ros.adaptation.adapter import StepReport, Weights, overwrite
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.loss import distillation_loss
from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.devices import Lane
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student


def configure(student: Student) -> list[nn.Parameter]:
    """Make a student trainable as TTT-KD has it, and return what is trained.

    Trained: all of the backbone, BatchNorm's affine parameters included. Frozen: both projectors, and BatchNorm's
    running statistics, which are used instead of the batch's. Convolutions stay in train mode, because in eval mode
    spconv's kernels bypass autograd (spconv issues 668, 675).
    """
    student.requires_grad_(False)
    student.train()
    for module in student.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    student.backbone.requires_grad_(True)
    return list(student.backbone.parameters())


class TTTKD:
    """TTT-KD-O: SGD steps on a private copy of a student, kept from frame to frame."""

    def __init__(self, student: Student, teacher: Teacher, seed: int = 0):
        if teacher.dim != student.config.teacher_dim:
            raise ValueError(
                f"the teacher has {teacher.dim} features, but the student was trained with one of "
                f"{student.config.teacher_dim} ({student.config.teacher_name or 'unnamed'}); use that teacher"
            )
        self._student = copy.deepcopy(student)
        self._trained = configure(self._student)
        self._teacher = teacher
        self._lane = Lane(self._student.teacher_mean.device, urgent=False)
        self._random = torch.Generator().manual_seed(seed)
        self._fresh_random = self._random.get_state()
        self._version = 0

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        """Adapt to a frame by `config.steps` gradient steps. What is not accepted leaves the weights as they were."""
        start = time.perf_counter()
        before = [parameter.detach().clone() for parameter in self._trained], self._random.get_state()
        try:
            with self._lane():
                outcome = self._descend(frame, config)
        except BaseException:
            self._restore(*before)
            raise
        if outcome["reason"]:
            self._restore(*before)
        else:
            self._version += 1
        return StepReport(
            stamp=frame.stamp,
            version=self._version,
            accepted=not outcome["reason"],
            learning_rate=config.learning_rate,
            stride=config.stride,
            seconds=time.perf_counter() - start,
            cameras=tuple(view.name for view in frame.views),
            ages=tuple((view.stamp - frame.stamp) * 1e-9 for view in frame.views),
            **outcome,
        )

    def weights(self) -> Weights:
        """A copy of the adapted tensors."""
        with self._lane():
            return Weights.copied(self._version, self._student.backbone)

    def adopt(self, weights: Weights) -> None:
        """Go on from these weights and their version. Version 0 is a new beginning, random state included."""
        overwrite(self._student.backbone, weights)
        self._forget_gradient()
        self._version = weights.version
        if not weights.version:
            self._random.set_state(self._fresh_random)

    def close(self) -> None:
        """Nothing to let go of."""

    def _descend(self, frame: Frame, config: TTTConfig) -> dict:
        if not frame.views:
            return {"reason": "no camera image"}
        device = self._student.teacher_mean.device
        everything = torch.tensor(frame.points)
        usable = self._student.usable(everything)
        points = everything[usable].to(device)
        index, target = teacher_targets(frame, self._teacher, self._random)
        seen = usable[index]
        index = (usable.cumsum(0) - 1)[index[seen]].to(device)  # numbered among the usable points
        target = target[seen.to(target.device)].to(device) - self._student.teacher_mean
        outcome = {"reason": "", "points": len(index)}
        if len(index) < config.min_points:
            return outcome | {"reason": f"{len(index)} points in view of a camera, expected {config.min_points}"}
        for number in range(config.steps):
            drawn = torch.randperm(len(index), generator=self._random)[: config.kd_points].to(device)
            features = self._student(points)[index[drawn]]
            loss = distillation_loss(self._student.distilled(features), target[drawn])
            outcome |= {"loss": loss.item(), "cosine": -loss.item(), "steps": number + 1}
            if not torch.isfinite(loss):
                return outcome | {"reason": "the loss is not finite"}
            self._forget_gradient()
            loss.backward()
            if not _finite(parameter.grad for parameter in self._trained):
                return outcome | {"reason": "the gradient is not finite"}
            self._descend_gradient(config.learning_rate)
        self._forget_gradient()
        if not _finite(self._trained):
            return outcome | {"reason": "the weights are not finite after the step"}
        return outcome

    @torch.no_grad()
    def _restore(self, tensors: Iterable[Tensor], random_state: Tensor) -> None:
        for parameter, value in zip(self._trained, tensors, strict=True):
            parameter.copy_(value)
        self._forget_gradient()
        self._random.set_state(random_state)

    @torch.no_grad()
    def _descend_gradient(self, learning_rate: float) -> None:
        """Plain SGD. Not torch.optim's, whose first use imports torch._dynamo: a second in which no thread predicts."""
        for parameter in self._trained:
            parameter.sub_(parameter.grad, alpha=learning_rate)

    def _forget_gradient(self) -> None:
        for parameter in self._trained:
            parameter.grad = None


def _finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all elements are finite, by the sums: a fifth of the time of looking at each."""
    return bool(torch.stack([tensor.detach().sum() for tensor in tensors]).isfinite().all())
