"""TTT-KD-O for a robot: the paper's step, with the guard, the scene limit and statistics that follow the sweeps around
it. `paper_config` switches all three off; then only the paper's step is left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from tttkd_ros.adaptation.adapter import NAN, StepReport
from tttkd_ros.adaptation.batch_norm import SweepStatistics
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.guard import Evidence, Guard, hold_out, measure
from tttkd_ros.adaptation.scene_limit import SceneLimit
from tttkd_ros.adaptation.targets import Teacher
from tttkd_ros.adaptation.ttt_kd import TTTKD, Sample
from tttkd_ros.devices import CudaStream, wait_for_stream
from tttkd_ros.diagnosis import explain_view, with_cause
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.voxels import Voxels
from tttkd_ros.segmenter.weights import Weights, adaptable, overwrite, total_norm


@dataclass
class _Attempt:
    """What a `StepReport` says of the gradient steps."""

    reason: str = ""
    skipped: bool = False
    points: int = 0
    steps: int = 0
    loss: float = NAN
    gradient_norm: float = NAN
    evidence: Evidence = field(default_factory=Evidence)
    distrusted: bool = False  # the guard rejected it

    def rejected(self, reason: str, *, skipped: bool = False, distrusted: bool = False) -> _Attempt:
        self.reason, self.skipped, self.distrusted = reason, skipped, distrusted
        return self


class OnlineTTTKD:
    """An `Adapter`: keeps the updates from frame to frame, on a private copy of a student.

    A rejected step restores the weights but keeps the BatchNorm statistics. If the guard distrusts earlier steps, they
    are rolled back too, statistics included.

    Args:
        student: copied, not changed.
        teacher: the frozen 2D foundation model.
        seed: of all random draws.

    Raises:
        ValueError: the student was trained with a teacher of another width.
    """

    def __init__(self, student: Student, teacher: Teacher, seed: int = 0):
        if teacher.dim != student.config.teacher_dim:
            raise ValueError(
                f"the teacher has {teacher.dim} features, but the student was trained with one of "
                f"{student.config.teacher_dim} ({student.config.teacher_name or 'unnamed'}); use that teacher"
            )
        self._generator = torch.Generator().manual_seed(seed)
        self._initial_random_state = self._generator.get_state()
        self._algorithm = TTTKD(student, teacher, self._generator)
        self._student = self._algorithm.student
        self._tensors = list(adaptable(self._student.backbone).values())
        self._shipped = self._snapshot()
        self._stream = CudaStream(self._student.teacher_mean.device, urgent=False)
        self._forget(version=0)
        wait_for_stream(self._student.teacher_mean.device)  # the copies were made in another CUDA stream

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        """Take `config.steps` gradient steps on a frame, if all checks pass."""
        with self._stream():
            return self._step(frame, config)

    def weights(self) -> Weights:
        """Return a copy of the tensors to publish: without a first step that the guard holds back."""
        with self._stream():
            weights = Weights.copied(self._version, self._student.backbone)
        held_back = self._guard.held_back
        if held_back is None:
            return weights
        named = zip(adaptable(self._student.backbone).items(), held_back, strict=True)
        parameters = {name: before for (name, tensor), before in named if isinstance(tensor, nn.Parameter)}
        return replace(weights, tensors=MappingProxyType({**weights.tensors, **parameters}))

    def load_weights(self, weights: Weights) -> None:
        """Continue from these weights and their version. Version 0 restarts, random state included."""
        with self._stream():
            overwrite(self._student.backbone, weights)
            self._algorithm.optimiser.zero_grad()
            wait_for_stream(self._student.teacher_mean.device)  # the caller may free those weights
        self._forget(weights.version)
        if not weights.version:
            self._generator.set_state(self._initial_random_state)

    def close(self) -> None:
        """Do nothing: there is no thread or process to end."""

    def _forget(self, version: int) -> None:
        """Forget all but the weights."""
        self._version = version
        self._guard = Guard(self._student.simulated)
        self._scene = SceneLimit(self._student.config.voxel_size)
        self._statistics = SweepStatistics()

    def _step(self, frame: Frame, config: TTTConfig) -> StepReport:
        start = time.perf_counter()
        original, random_state = self._snapshot(), self._generator.get_state()
        try:
            points = torch.tensor(frame.upright)
            in_range = self._student.in_range(points)
            points = points[in_range].to(self._student.teacher_mean.device)
            if config.guard:
                self._scene.observe(points)
            else:
                self._guard = Guard(self._student.simulated)  # it forgets what it did not check
            voxels = self._student.voxels(points)  # for all passes over the sweep
            bn_updated = self._update_statistics(voxels, config)
            before = self._snapshot() if bn_updated else original
            attempt = self._attempt(frame, in_range, voxels, config)
        except BaseException:
            self._restore(original, random_state)
            raise
        self._statistics.updates += bn_updated
        self._scene.bn_updates += bn_updated
        rolled_back, published = False, self._guard.ready_to_publish  # whether the steps so far are published
        if not attempt.reason:
            self._scene.steps += attempt.steps
            if config.guard:
                self._guard.accept(attempt.evidence, attempt.gradient_norm, before)
            self._version += self._guard.ready_to_publish
        else:
            earlier = self._guard.reject(config, before) if attempt.distrusted else None
            rolled_back = earlier is not None
            self._restore(earlier or before, random_state)
            self._version += bn_updated or (rolled_back and published)
        return StepReport(
            stamp=frame.stamp,
            version=self._version,
            accepted=not attempt.reason,
            reason=attempt.reason,
            loss=attempt.loss,
            cosine=-attempt.loss,
            points=attempt.points,
            steps=attempt.steps,
            learning_rate=config.learning_rate,
            stride=config.stride,
            seconds=time.perf_counter() - start,
            cameras=tuple(view.name for view in frame.views),
            ages=tuple((view.stamp - frame.stamp) * 1e-9 for view in frame.views),
            alignment=attempt.evidence.alignment,
            held_out=attempt.evidence.cosine,
            gradient_norm=attempt.gradient_norm,
            rolled_back=rolled_back,
            bn_updated=bn_updated and not rolled_back,
            paused=self._guard.paused,
            skipped=attempt.skipped,
        )

    def _update_statistics(self, voxels: Voxels, config: TTTConfig) -> bool:
        limited = config.guard and self._scene.bn_updates >= config.scene_steps
        if not config.bn_momentum or limited:
            return False
        return self._statistics.update(self._student, voxels, config.bn_momentum)

    def _attempt(self, frame: Frame, in_range: Tensor, voxels: Voxels, config: TTTConfig) -> _Attempt:
        """Take the gradient steps unless a check fails. in_range: (N,) bool, the points of the frame in `voxels`."""
        attempt, max_range = _Attempt(), self._student.max_range
        if not frame.views:
            return attempt.rejected(with_cause("no camera image", explain_view(frame, max_range)))
        if config.guard and self._scene.steps >= config.scene_steps:
            return attempt.rejected(f"enough learned from this scene: {self._scene.steps} steps", skipped=True)
        if config.guard and (reason := self._guard.check_images(frame.views)):
            return attempt.rejected(reason, distrusted=True)
        sample = self._algorithm.project(frame, in_range, voxels)
        attempt.points = len(sample)
        if len(sample) < config.min_points:
            found = f"{len(sample)} points in view of a camera, expected at least {config.min_points}"
            return attempt.rejected(with_cause(found, explain_view(frame, max_range)))
        held_out, candidates = (part.to(sample.voxel.device) for part in hold_out(len(sample), self._generator))
        if not config.guard:  # as in the paper: every point may be trained on
            candidates = torch.arange(len(sample), device=sample.voxel.device)
        for number in range(config.steps):
            features = self._algorithm.features(sample)
            if number == 0:
                attempt.evidence = self._measure(features, sample, held_out)
                if config.guard and (reason := self._guard.check(attempt.evidence, config)):
                    return attempt.rejected(reason, distrusted=True)
            try:
                attempt.loss, attempt.gradient_norm = self._algorithm.descend(
                    features, sample, candidates, config.kd_points, lambda norm: self._learning_rate(norm, config)
                )
            except FloatingPointError as error:
                return attempt.rejected(str(error))
            attempt.steps += 1
            self._anchor(config.source_anchoring)
        self._algorithm.optimiser.zero_grad()
        if not math.isfinite(total_norm(self._tensors)):
            return attempt.rejected("the weights are not finite after the step")
        return attempt

    def _learning_rate(self, norm: float, config: TTTConfig) -> float:
        return (self._guard.step_scale(norm, config) if config.guard else 1.0) * config.learning_rate

    @torch.no_grad()
    def _measure(self, features: Tensor, sample: Sample, held_out: Tensor) -> Evidence:
        predicted = self._student.predict_teacher_features(features[held_out])
        return measure(predicted, sample.table, sample.patch[held_out], sample.grid)

    @torch.no_grad()
    def _anchor(self, share: float) -> None:
        """Move all tensors by this share of the way back to the shipped ones."""
        if share:
            for tensor, shipped in zip(self._tensors, self._shipped, strict=True):
                tensor.lerp_(shipped, share)

    def _snapshot(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors]

    @torch.no_grad()
    def _restore(self, tensors: Iterable[Tensor], random_state: Tensor) -> None:
        for tensor, value in zip(self._tensors, tensors, strict=True):
            tensor.copy_(value)
        self._algorithm.optimiser.zero_grad()
        self._generator.set_state(random_state)
