"""TTT-KD-O for a robot: the paper's steps, with the crop, the guard, the scene limit and statistics that follow the
sweeps around them. `paper_config` switches all four off; then only the paper's steps are left."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from tttkd_ros.adaptation.adapter import NAN, StepReport
from tttkd_ros.adaptation.batch_norm import SweepStatistics
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.crop import crop
from tttkd_ros.adaptation.guard import MAX_POINTS, Guard, measure
from tttkd_ros.adaptation.scene_limit import SceneLimit
from tttkd_ros.adaptation.targets import Teacher, image_features, with_features
from tttkd_ros.adaptation.ttt_kd import TTTKD, Scene
from tttkd_ros.devices import CudaStream, wait_for_stream
from tttkd_ros.diagnosis import explain_view, with_cause
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.voxels import rotations
from tttkd_ros.segmenter.weights import Weights, adaptable, overwrite, total_norm
from tttkd_ros.teacher.foundation_model import NO_TEACHER_HEAD

MAX_RISE = 0.1  # of the loss within the steps of a sweep; they have other rotations, so it may rise a little


@dataclass
class _Attempt:
    """What a `StepReport` says of the gradient steps."""

    reason: str = ""
    skipped: bool = False
    points: int = 0
    steps: int = 0
    loss: float = NAN
    gradient_norm: float = NAN
    alignment: float = NAN
    distrusted: bool = False  # the guard rejected it

    def rejected(self, reason: str, *, skipped: bool = False, distrusted: bool = False) -> _Attempt:
        self.reason, self.skipped, self.distrusted = reason, skipped, distrusted
        return self


class OnlineTTTKD:
    """An `Adapter`: keeps the updates from frame to frame, on a private copy of a student.

    A rejected step restores the weights but keeps the BatchNorm statistics.

    Args:
        student: copied, not changed.
        teacher: the frozen 2D foundation model.
        seed: of all random draws.

    Raises:
        ValueError: the student was trained with a teacher of another width.
    """

    def __init__(self, student: Student, teacher: Teacher, seed: int = 0):
        if not student.config.teacher_dim:
            raise ValueError(NO_TEACHER_HEAD)
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
        """Return a copy of the tensors to publish."""
        with self._stream():
            return Weights.copied(self._version, self._student.backbone)

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
        self._turn = 0  # counts the steps, for their rotations
        self._guard = Guard(self._student.simulated)
        self._scene = SceneLimit(self._student.config.voxel_size)
        self._statistics = SweepStatistics()

    def _step(self, frame: Frame, config: TTTConfig) -> StepReport:
        start = time.perf_counter()
        original, draws = self._snapshot(), (self._generator.get_state(), self._turn)
        try:
            images = None
            if self._sees_images(config):
                frame = with_features(frame, self._algorithm.teacher)
                images = image_features(frame, self._algorithm.teacher)
            cloud = self._student.points(frame.upright, frame.upright_features, images)
            in_range = self._student.in_range(cloud.xyz, rotations(config.rotations))
            points = cloud[in_range].to(self._student.teacher_mean.device)
            if config.guard:
                self._scene.observe(points.xyz)
            else:
                self._guard = Guard(self._student.simulated)  # it forgets what it did not check
            bn_updated = self._update_statistics(points, config)
            before = self._snapshot() if bn_updated else original
            attempt = self._attempt(frame, points, in_range, config, start)
        except BaseException:
            self._restore(original, draws)
            raise
        self._statistics.updates += bn_updated
        self._scene.bn_updates += bn_updated
        if attempt.reason:
            self._restore(before, draws)
        else:
            self._scene.steps += 1
            self._guard.accept()
        if attempt.distrusted:
            self._guard.reject(config.patience)
        self._version += not attempt.reason or bn_updated
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
            alignment=attempt.alignment,
            gradient_norm=attempt.gradient_norm,
            bn_updated=bn_updated,
            paused=self._guard.paused,
            skipped=attempt.skipped,
            distrusted=self._guard.distrusts,
        )

    def _update_statistics(self, points: Points, config: TTTConfig) -> bool:
        limited = config.guard and self._scene.bn_updates >= config.scene_steps
        if not config.bn_momentum or limited:
            return False
        return self._statistics.update(self._student, self._student.prepare(points), config.bn_momentum)

    def _sees_images(self, config: TTTConfig) -> bool:
        """Whether the statistics follow clouds with their image features. Those to distrust are left out."""
        return bool(self._student.config.injection and config.bn_momentum) and not self._guard.distrusts

    def _attempt(self, frame: Frame, points: Points, in_range: Tensor, config: TTTConfig, start: float) -> _Attempt:
        """Take the gradient steps unless a check fails. points: those of the frame in the mask `in_range`."""
        attempt, first, max_range = _Attempt(), NAN, self._student.max_range
        if not frame.views:
            return attempt.rejected(with_cause("no camera image", explain_view(frame, max_range)))
        if config.guard and self._scene.steps >= config.scene_steps:
            return attempt.rejected(f"enough learned from this scene: {self._scene.steps} sweeps", skipped=True)
        if config.guard and (reason := self._guard.check_images(frame.views)):
            return attempt.rejected(reason, distrusted=True)
        scene = self._algorithm.project(frame, points, in_range)
        attempt.points = len(scene)
        if len(scene) < config.min_points:
            found = f"{len(scene)} points in view of a camera, expected at least {config.min_points}"
            return attempt.rejected(with_cause(found, explain_view(frame, max_range)))
        if config.crop:
            scene = crop(scene, config.crop)
        for number in range(config.steps):
            if number and config.seconds and time.perf_counter() - start > config.seconds:
                break
            features = self._algorithm.features(scene, self._turn % config.rotations / config.rotations)
            self._turn += 1
            if number == 0:
                attempt.alignment = self._measure(features, scene)
                if config.guard and (reason := self._guard.check(attempt.alignment, config)):
                    return attempt.rejected(reason, distrusted=True)
            try:
                attempt.loss, attempt.gradient_norm = self._algorithm.descend(
                    features, scene, config.kd_points, config.learning_rate
                )
            except FloatingPointError as error:
                return attempt.rejected(str(error))
            first = attempt.loss if number == 0 else first
            attempt.steps += 1
            self._anchor(config.source_anchoring)
        self._algorithm.optimiser.zero_grad()
        if config.guard and attempt.loss - first > MAX_RISE:
            rise = f"the loss rose from {first:.2f} to {attempt.loss:.2f} in {attempt.steps} steps"
            rate = f"the learning rate {config.learning_rate:g} is too high for this student"
            return attempt.rejected(f"{rise}: {rate}, lower it")
        if not math.isfinite(total_norm(self._tensors)):
            return attempt.rejected("the weights are not finite after the step")
        return attempt

    @torch.no_grad()
    def _measure(self, features: Tensor, scene: Scene) -> float:
        """The alignment of some of the visible points. No step on this sweep precedes it, so no point is held out."""
        some = slice(None, None, -(-len(scene) // MAX_POINTS))
        predicted = self._student.predict_teacher_features(features[some])
        return measure(predicted, scene.table, scene.patch[some], scene.grid)

    @torch.no_grad()
    def _anchor(self, share: float) -> None:
        """Move all tensors by this share of the way back to the shipped ones."""
        if share:
            for tensor, shipped in zip(self._tensors, self._shipped, strict=True):
                tensor.lerp_(shipped, share)

    def _snapshot(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors]

    @torch.no_grad()
    def _restore(self, tensors: Iterable[Tensor], draws: tuple[Tensor, int]) -> None:
        """Restore the weights, the random state and the turn of the rotations."""
        for tensor, value in zip(self._tensors, tensors, strict=True):
            tensor.copy_(value)
        self._algorithm.optimiser.zero_grad()
        random_state, self._turn = draws
        self._generator.set_state(random_state)
