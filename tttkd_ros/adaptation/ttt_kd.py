"""TTT-KD: test-time training by distillation from a frozen 2D foundation model (arXiv 2403.11691)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor, nn

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.batch_norm import dua_momentum, has_statistics, norms, update_bn_stats
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.guard import Guard, alignment, held_out
from tttkd_ros.adaptation.loss import distillation_loss
from tttkd_ros.adaptation.scene_limit import Scene
from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.devices import CudaStream, wait_for_stream
from tttkd_ros.diagnosis import explain_view, with_cause
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.voxels import Voxels
from tttkd_ros.segmenter.weights import Weights, adaptable, overwrite


def configure(student: Student) -> list[nn.Parameter]:
    """Make a student trainable as TTT-KD has it, and return what is trained.

    Trained: all of the backbone, BatchNorm's affine parameters included. Frozen: both projectors. BatchNorm uses its
    running statistics instead of the batch's. Convolutions stay in train mode, because in eval mode spconv's kernels
    bypass autograd (spconv issues 668, 675).
    """
    student.requires_grad_(False)
    student.train()
    for norm in norms(student):
        norm.eval()
    student.backbone.requires_grad_(True)
    return list(student.backbone.parameters())


class TTTKD:
    """TTT-KD-O: SGD steps on a private copy of a student, kept from frame to frame.

    Beyond the paper, which freezes them, BatchNorm's running statistics follow those of each sweep that is handed in,
    as DUA's do (`dua_momentum`, with `bn_momentum` as the least). They are the point cloud's alone, so that they also
    follow where the step is not taken. Only where earlier steps are undone do they go back as well, to those of then.

    With the guard, a scene is learnt from by `config.scene_steps` steps; then both rest until it changes (scene.py).
    """

    def __init__(self, student: Student, teacher: Teacher, seed: int = 0):
        if teacher.dim != student.config.teacher_dim:
            raise ValueError(
                f"the teacher has {teacher.dim} features, but the student was trained with one of "
                f"{student.config.teacher_dim} ({student.config.teacher_name or 'unnamed'}); use that teacher"
            )
        self._student = copy.deepcopy(student)
        self._trained = configure(self._student)
        self._changing = list(adaptable(self._student.backbone).values())
        self._teacher = teacher
        self._stream = CudaStream(self._student.teacher_mean.device, urgent=False)
        self._guard, self._scene = Guard(student.simulated), Scene(student.config.voxel_size)
        self._shipped = self._copies()
        self._random = torch.Generator().manual_seed(seed)
        self._fresh_random = self._random.get_state()
        self._version = self._updates = 0
        self._held_back: dict[str, Tensor] = {}  # the parameters before a step that is not to be published yet
        wait_for_stream(self._student.teacher_mean.device)  # the copies were made in another one than the lane's

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        """Adapt to a frame by `config.steps` gradient steps. What is not accepted leaves the weights, but for
        BatchNorm's statistics, as they were, or as they were before recent steps that the same evidence speaks against.
        The version rises with what is to be published: the guard keeps the first step back until a second bears it out.
        """
        with self._stream():
            return self._step(frame, config)

    def _step(self, frame: Frame, config: TTTConfig) -> StepReport:
        start = time.perf_counter()
        original, random_state = self._copies(), self._random.get_state()
        try:
            everything = torch.tensor(frame.upright)
            usable = self._student.in_range(everything)
            points = everything[usable].to(self._student.teacher_mean.device)
            if config.guard:
                self._scene.look(points)
            voxels = self._student.voxels(points)  # for all passes over the sweep
            followed = self._follow(voxels, config, original)
            before = self._copies() if followed else original
            outcome = self._descend(frame, usable, voxels, config)
        except BaseException:
            self._restore(original, random_state)
            raise
        self._updates += followed
        self._scene.updates += followed
        accepted, doubted, rolled_back = not outcome["reason"], outcome.pop("doubted", False), False
        if accepted:
            self._scene.steps += outcome["steps"]
            self._guard.accept(outcome["alignment"], outcome["held_out"], outcome["gradient_norm"], before)
            published = not config.guard or self._guard.vouches
            self._held_back = {} if published else self._parameters_of(before)
        else:
            spoken = self._guard.vouches
            undone = self._guard.reject(config, before) if doubted else None
            rolled_back = undone is not None
            self._restore(undone or before, random_state)
            published = followed or (rolled_back and spoken)
            if rolled_back:
                self._held_back = {}
        self._version += published
        return StepReport(
            stamp=frame.stamp,
            version=self._version,
            accepted=accepted,
            learning_rate=config.learning_rate,
            stride=config.stride,
            seconds=time.perf_counter() - start,
            cameras=tuple(view.name for view in frame.views),
            ages=tuple((view.stamp - frame.stamp) * 1e-9 for view in frame.views),
            rolled_back=rolled_back,
            followed=followed and not rolled_back,
            paused=self._guard.paused,
            **outcome,
        )

    def weights(self) -> Weights:
        """A copy of the adapted tensors, less a step that the guard keeps back."""
        with self._stream():
            weights = Weights.copied(self._version, self._student.backbone)
        return replace(weights, tensors=MappingProxyType({**weights.tensors, **self._held_back}))

    def load_weights(self, weights: Weights) -> None:
        """Go on from these weights and their version. Version 0 is a new beginning, random state included."""
        with self._stream():
            overwrite(self._student.backbone, weights)
            wait_for_stream(self._student.teacher_mean.device)  # before anyone lets go of those weights
        self._forget_gradient()
        self._guard, self._scene = Guard(self._student.simulated), Scene(self._student.config.voxel_size)
        self._held_back = {}
        self._version, self._updates = weights.version, 0
        if not weights.version:
            self._random.set_state(self._fresh_random)

    def close(self) -> None:
        """Nothing to let go of."""

    def _follow(self, voxels: Voxels, config: TTTConfig, original: list[Tensor]) -> bool:
        """Whether BatchNorm's statistics followed those of a sweep; if not, all is as in `original`."""
        if not config.bn_momentum or _enough(self._scene.updates, config) or not has_statistics(self._student, voxels):
            return False
        update_bn_stats(self._student, voxels, dua_momentum(self._updates + 1, config.bn_momentum))
        if math.isfinite(_norm(self._changing)):
            return True
        self._restore(original, self._random.get_state())
        return False

    def _descend(self, frame: Frame, usable: Tensor, voxels: Voxels, config: TTTConfig) -> dict:
        """What a report says of the step; "doubted" where it is the guard that objects. usable: (N,) bool, the points
        of the frame that can be used; voxels: of these."""
        if not frame.views:
            return {"reason": with_cause("no camera image", explain_view(frame, self._student.max_range))}
        if _enough(self._scene.steps, config):
            return {"reason": f"enough learnt from this scene: {self._scene.steps} steps", "skipped": True}
        if config.guard and (reason := self._guard.objects_to_images(frame.views)):
            return {"reason": reason, "doubted": True}
        device = voxels.indices.device
        targets = teacher_targets(frame, self._teacher, self._random)
        seen = usable[targets.index]
        index = (usable.cumsum(0) - 1)[targets.index[seen]].to(device)  # numbered among the usable points
        outcome = {"reason": "", "points": len(index)}
        if len(index) < config.min_points:
            few = f"{len(index)} points in view of a camera, expected {config.min_points}"
            return outcome | {"reason": with_cause(few, explain_view(frame, self._student.max_range))}
        patch = targets.patch[seen.to(targets.patch.device)].to(device)
        table = targets.table.to(device) - self._student.teacher_mean
        voxel = voxels.inverse[index]  # of each of these points
        held, rest = (part.to(device) for part in held_out(len(index), self._random))
        if not config.guard:  # as in the paper: all points may be trained on
            rest = torch.arange(len(index), device=device)
        for number in range(config.steps):
            features = self._student.voxel_features(voxels)[voxel]
            if not number:
                outcome |= self._evidence(features[held], table, patch[held], targets.grid)
                evidence = outcome["alignment"], outcome["held_out"]
                if config.guard and (reason := self._guard.objects(*evidence, config)):
                    return outcome | {"reason": reason, "doubted": True}
            drawn = rest[torch.randperm(len(rest), generator=self._random)[: config.kd_points].to(device)]
            loss = distillation_loss(self._student.predict_teacher_features(features[drawn]), table[patch[drawn]])
            outcome |= {"loss": loss.item(), "cosine": -loss.item(), "steps": number + 1}
            if not torch.isfinite(loss):
                return outcome | {"reason": "the loss is not finite"}
            self._forget_gradient()
            loss.backward()
            norm = _norm(parameter.grad for parameter in self._trained)
            outcome |= {"gradient_norm": norm}
            if not math.isfinite(norm):
                return outcome | {"reason": "the gradient is not finite"}
            self._move(config, self._guard.share(norm, config) if config.guard else 1.0)
        self._forget_gradient()
        if not math.isfinite(_norm(self._changing)):
            return outcome | {"reason": "the weights are not finite after the step"}
        return outcome

    @torch.no_grad()
    def _evidence(self, features: Tensor, table: Tensor, patch: Tensor, grid: tuple[int, int]) -> dict[str, float]:
        """Of held-out points: features (H, channels), patch (H,)."""
        predicted = self._student.predict_teacher_features(features)
        cosine = -distillation_loss(predicted, table[patch]).item()
        return {"alignment": alignment(predicted, table, patch, grid), "held_out": cosine}

    def _parameters_of(self, copies: list[Tensor]) -> dict[str, Tensor]:
        """By name, of `_copies`, those that are not BatchNorm's statistics."""
        named = zip(adaptable(self._student.backbone).items(), copies, strict=True)
        return {name: copy for (name, tensor), copy in named if isinstance(tensor, nn.Parameter)}

    def _copies(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._changing]

    @torch.no_grad()
    def _restore(self, tensors: Iterable[Tensor], random_state: Tensor) -> None:
        for tensor, value in zip(self._changing, tensors, strict=True):
            tensor.copy_(value)
        self._forget_gradient()
        self._random.set_state(random_state)

    @torch.no_grad()
    def _move(self, config: TTTConfig, share: float) -> None:
        """Plain SGD with a share of the gradient, then the pull.

        Not torch.optim's, whose first use imports torch._dynamo: a second in which no thread predicts.
        """
        for parameter in self._trained:
            parameter.sub_(parameter.grad, alpha=share * config.learning_rate)
        if config.pull:
            for tensor, shipped in zip(self._changing, self._shipped, strict=True):
                tensor.lerp_(shipped, config.pull)

    def _forget_gradient(self) -> None:
        for parameter in self._trained:
            parameter.grad = None


def _enough(taken: int, config: TTTConfig) -> bool:
    """Of a scene."""
    return config.guard and taken >= config.scene_steps


def _norm(tensors: Iterable[Tensor]) -> float:
    """The Euclidean norm of all elements; not finite if one of them is not."""
    # In double precision, for squares overflow long before their roots do.
    parts = [torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64) for tensor in tensors]
    return torch.stack(parts).norm().item()
