"""The interface and the step that all compared methods share."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.batch_norm import MIN_COARSE_CELLS, has_statistics
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.devices import CudaStream, wait_for_stream
from tttkd_ros.diagnosis import explain_range, explain_view, with_cause
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.weights import Weights, overwrite
from tttkd_ros.teacher.image_head import ImageHead

IGNORED = -100  # a label that cross_entropy ignores


@dataclass(eq=False)
class BaselineState:
    """Everything that a method changes from step to step. Methods may add fields."""

    student: Student  # its backbone is published
    generator: torch.Generator  # of all random draws, on the CPU
    optimiser: torch.optim.Optimizer | None
    updates: int = field(default=0, init=False)


S = TypeVar("S", bound=BaselineState)


@dataclass(frozen=True, eq=False)
class AdaptationInput:
    """What a method learns from in one step, on the student's device. Labels are never part of it."""

    points: Points  # N, z up, in range
    visible: Tensor | None = None  # (M,) int64, ascending: points that a camera sees; None if images are not used
    features: Tensor | None = None  # (M, D): the teacher's, of the visible points


class Baseline(ABC, Generic[S]):
    """An `Adapter` that runs `config.steps` updates per frame on its own copy of a student.

    It updates a copy of its state, which replaces the state only if the step is accepted. learning_rate: None for the
    method's own. Raises ValueError for a negative one, or if the method has none."""

    learning_rate = math.nan  # for a method without one

    def __init__(self, student: Student, seed: int = 0, learning_rate: float | None = None):
        self._seed = seed
        if learning_rate is not None:
            if math.isnan(self.learning_rate):
                raise ValueError(f"learning_rate is {learning_rate}, but {type(self).__name__} has none: leave it out")
            if not 0 <= learning_rate < math.inf:
                raise ValueError(f"learning_rate is {learning_rate}, expected a number of at least 0")
            self.learning_rate = learning_rate
        self._stream = CudaStream(student.teacher_mean.device, urgent=False)
        self._version = 0
        self._restart(student)

    @abstractmethod
    def _init_state(self, student: Student, generator: torch.Generator) -> S:
        """Return the state before the first frame. It takes over the student."""

    @abstractmethod
    def _update(self, state: S, inputs: AdaptationInput) -> float | None:
        """Change the state once. Return the loss before the change, None for a method without a loss."""

    def _prepare(self, state: S, frame: Frame) -> AdaptationInput:
        """Select the points of a frame to learn from."""
        points = state.student.points(frame.upright, frame.upright_features)
        return AdaptationInput(points[state.student.in_range(points.xyz)].to(state.student.teacher_mean.device))

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        """Adapt to a frame without its labels. A rejected step changes nothing. The report counts the points to learn
        from. Of `config` only `steps`, `min_points` and `stride` apply."""
        start = time.perf_counter()
        with self._stream():
            attempt = copy.deepcopy(self._state)
            outcome = self._attempt(attempt, frame, config)
        if not outcome["reason"]:
            self._state = attempt
            self._version += 1
        return StepReport(
            frame.stamp, self._version, not outcome["reason"],
            learning_rate=self.learning_rate, stride=config.stride, seconds=time.perf_counter() - start,
            cameras=tuple(view.name for view in frame.views),
            ages=tuple((view.stamp - frame.stamp) * 1e-9 for view in frame.views),
            **outcome,
        )

    def weights(self) -> Weights:
        """Return a copy of the adapted tensors."""
        with self._stream():
            return Weights.copied(self._version, self._state.student.backbone)

    def load_weights(self, weights: Weights) -> None:
        """Continue from these weights; all other state starts anew. Raises ValueError if they fit another backbone."""
        self._restart(self._state.student, weights)
        self._version = weights.version

    def close(self) -> None:
        """Do nothing: a baseline holds no threads or processes."""

    def _restart(self, student: Student, weights: Weights | None = None) -> None:
        device = student.teacher_mean.device
        wait_for_stream(device)  # the student may have been made in another stream
        with self._stream():
            student = copy.deepcopy(student)
            if weights is not None:
                overwrite(student.backbone, weights)
            self._state = self._init_state(student, torch.Generator().manual_seed(self._seed))
            wait_for_stream(device)  # the caller may release what was copied

    def _attempt(self, state: S, frame: Frame, config: TTTConfig) -> dict:
        """Change the state and return the fields of the report. An empty reason accepts the step."""
        inputs = self._prepare(state, frame)
        uses_images, max_range = inputs.visible is not None, state.student.max_range
        count = len(inputs.visible if uses_images else inputs.points)
        outcome = {"reason": "", "points": count}
        if count < config.min_points:
            too_few = f"{count} points to learn from, expected {config.min_points}"
            cause = explain_view(frame, max_range) if uses_images else explain_range(frame.points, max_range)
            return outcome | {"reason": with_cause(too_few, cause)}
        if not has_statistics(state.student, state.student.prepare(inputs.points)):
            size = f"{MIN_COARSE_CELLS} cubes of {state.student.coarsest_cell:g} m"
            return outcome | {"reason": f"the cloud is smaller than {size}: no statistics"}
        for number in range(config.steps):
            state.updates += 1
            loss = self._update(state, inputs)
            outcome["steps"] = number + 1
            if loss is not None:
                outcome["loss"] = loss
                if not math.isfinite(loss):
                    return outcome | {"reason": "the loss is not finite"}
        if not all(tensor.isfinite().all() for tensor in state.student.backbone.state_dict().values()):
            return outcome | {"reason": "the weights are not finite after the step"}
        return outcome


class CrossModalBaseline(Baseline[S]):
    """A baseline with a 2D class branch beside the 3D one. Both adapt through their BatchNorm layers.

    In the papers the 2D branch is a U-Net with a ResNet34 encoder, trained on the source, with one prediction per
    pixel. Here it is the frozen teacher with an `ImageHead` trained on the source, with one prediction per patch. Only
    the 3D branch is published and evaluated.

    The teacher computes the features of the patches, and the head classifies them. Raises ValueError if the head has
    other classes than the student, or other features than the teacher.
    """

    def __init__(
        self, student: Student, teacher: Teacher, head: ImageHead, seed: int = 0, learning_rate: float | None = None,
    ):
        classes = student.config.class_set
        if (head.class_set.names, head.dim) != (classes.names, teacher.dim):
            raise ValueError(f"the image head has {head.class_set} and {head.dim} features, but the student has "
                             f"{classes} and the teacher {teacher.dim} features; train a head that fits")
        self._teacher, self._head = teacher, head.to(student.teacher_mean.device)
        super().__init__(student, seed, learning_rate)

    def _prepare(self, state: S, frame: Frame) -> AdaptationInput:
        points = state.student.points(frame.upright, frame.upright_features)
        in_range = state.student.in_range(points.xyz)
        device = state.student.teacher_mean.device
        targets = teacher_targets(frame, self._teacher, state.generator)
        usable = in_range[targets.index]
        visible = (in_range.cumsum(0) - 1)[targets.index[usable]]  # row numbers among the points in range
        features = targets.features[usable.to(targets.patch.device)]
        return AdaptationInput(points[in_range].to(device), visible.to(device), features.to(device))


def gradient_step(loss: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """Take one step of the optimiser and return the value of the loss."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()  # a copied state should not carry gradients
    return loss.item()
