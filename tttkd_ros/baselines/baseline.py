"""What the methods that TTT-KD is compared with share: an attempt is made on a copy, and counts only if it is sound."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.batch_norm import COARSE, deepest_voxel, has_statistics
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.devices import CudaStream, wait_for_stream
from tttkd_ros.diagnosis import explain_range, explain_view, with_cause
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.weights import Weights, overwrite


@dataclass(eq=False)
class State:
    """All that a method changes as it goes; methods add to it. student: the one whose weights are published."""

    student: Student
    random: torch.Generator


@dataclass(frozen=True, eq=False)
class Scene:
    """What a method may look at. points: (N, 3), the usable ones, on the student's device.

    visible: (M,) int64 ascending, points that a camera sees, and features: (M, D), the teacher's there; None for a
    method that knows no cameras.
    """

    points: Tensor
    visible: Tensor | None = None
    features: Tensor | None = None

    @property
    def count(self) -> int:
        """Points to learn from."""
        return len(self.points) if self.visible is None else len(self.visible)


S = TypeVar("S", bound=State)


class Baseline(ABC, Generic[S]):
    """An `Adapter`: `config.steps` updates per frame, on a private copy of a student, kept from frame to frame.

    Of the configuration only `steps`, `min_points` and `stride` count. The learning rate is the method's own, for
    TTT-KD's SGD on all weights needs another one by orders of magnitude; the guard and the pull are TTT-KD's alone. A
    report's `points` are those learnt from: all, or those in view for a method that uses images.
    """

    def __init__(self, student: Student, learning_rate: float = math.nan, seed: int = 0):
        self.learning_rate, self._seed = learning_rate, seed
        self._stream = CudaStream(student.teacher_mean.device, urgent=False)
        self._version = 0
        self._restart(student)

    @abstractmethod
    def _begin(self, student: Student, random: torch.Generator) -> S:
        """The state before the first frame; the student is the method's to keep."""

    @abstractmethod
    def _update(self, state: S, scene: Scene) -> float | None:
        """Change the state once. The loss before that; None for a method without one."""

    def _look(self, state: S, frame: Frame) -> Scene:
        points = torch.tensor(frame.upright)  # a copy: a bag's arrays are read-only
        return Scene(points[state.student.in_range(points)].to(state.student.teacher_mean.device))

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        """Adapt to a frame. What is not accepted leaves the weights, and all else that is kept, as they were."""
        start = time.perf_counter()
        with self._stream():
            attempt = copy.deepcopy(self._state)
            outcome = self._attempt(attempt, frame, config)
        if not outcome["reason"]:
            self._state = attempt
            self._version += 1
        return StepReport(
            stamp=frame.stamp,
            version=self._version,
            accepted=not outcome["reason"],
            learning_rate=self.learning_rate,
            stride=config.stride,
            seconds=time.perf_counter() - start,
            cameras=tuple(view.name for view in frame.views),
            ages=tuple((view.stamp - frame.stamp) * 1e-9 for view in frame.views),
            **outcome,
        )

    def weights(self) -> Weights:
        """A copy of the adapted tensors."""
        with self._stream():
            return Weights.copied(self._version, self._state.student.backbone)

    def load_weights(self, weights: Weights) -> None:
        """Go on from these weights and their version; whatever else was learnt is forgotten."""
        self._restart(self._state.student, weights)
        self._version = weights.version

    def close(self) -> None:
        """Nothing to let go of."""

    def _restart(self, student: Student, weights: Weights | None = None) -> None:
        """Begin with a copy of a student, with other weights if given."""
        device = student.teacher_mean.device
        wait_for_stream(device)  # whoever made the student did so in another one than the lane's
        with self._stream():
            student = copy.deepcopy(student)
            if weights is not None:
                overwrite(student.backbone, weights)
            self._state = self._begin(student, torch.Generator().manual_seed(self._seed))
            wait_for_stream(device)  # before anyone lets go of what was copied

    def _attempt(self, state: S, frame: Frame, config: TTTConfig) -> dict:
        """What a report says of the step."""
        scene = self._look(state, frame)
        outcome = {"reason": "", "points": scene.count}
        if scene.count < config.min_points:
            few = f"{scene.count} points to learn from, expected {config.min_points}"
            reach = state.student.max_range
            blind = scene.visible is None
            cause = explain_range(frame.points, reach) if blind else explain_view(frame, reach)
            return outcome | {"reason": with_cause(few, cause)}
        if not has_statistics(state.student, state.student.voxels(scene.points)):
            size = f"{COARSE} cubes of {deepest_voxel(state.student):g} m"
            return outcome | {"reason": f"the cloud is smaller than {size}: no statistics"}
        for number in range(config.steps):
            loss = self._update(state, scene)
            outcome["steps"] = number + 1
            if loss is not None:
                outcome["loss"] = loss
                if not math.isfinite(loss):
                    return outcome | {"reason": "the loss is not finite"}
        if not all(tensor.isfinite().all() for tensor in state.student.backbone.state_dict().values()):
            return outcome | {"reason": "the weights are not finite after the step"}
        return outcome


def descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """One step of the optimiser down this loss; its value."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()  # a state that is copied should not carry gradients
    return loss.item()
