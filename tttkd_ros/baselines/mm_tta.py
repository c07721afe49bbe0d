"""MM-TTA: multi-modal test-time adaptation for 3D semantic segmentation (arXiv 2204.12667; no public code)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.baselines.baseline import IGNORED, AdaptationInput, BaselineState, CrossModalBaseline, gradient_step
from tttkd_ros.baselines.batch_norm import ema_update, train_affine_only
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.image_head import ImageHead

MOMENTUM = 0.99  # of the slow models (lambda)
MIN_CONSISTENCY = 0.3  # a point below it in both modalities is ignored (theta)


@dataclass(eq=False)
class MMTTAState(BaselineState):
    """The state of MM-TTA. `student` is the fast model of the 3D branch."""

    head: ImageHead  # the fast model of the 2D branch
    slow: Student
    slow_head: ImageHead


class MMTTA(CrossModalBaseline[MMTTAState]):
    """Trains both branches with one pseudo label per point, from the modality with the more consistent prediction.

    Intra-PG: each modality has a fast model, whose BatchNorm is trained, uses the batch's statistics and updates its
    running ones, and a slow model, whose BatchNorm is a moving average of the fast one's with momentum 0.99. The
    modality's prediction is the mean of both. Inter-PR, the paper's soft selection: predictions are weighted by the
    consistency of their two models. A point is ignored if no modality's consistency reaches 0.3. Both fast models
    learn by cross-entropy. Predictions are the fast 3D model's, with its running statistics.

    Differences from the source: see `CrossModalBaseline`. The slow models serve the pseudo labels alone, because 30
    updates, as many as a short drive has, move them by only 26 %. Probabilities are averaged instead of logits,
    because the logits of the branches differ in scale. Adam, as in xMUDA, on which the paper builds.
    """

    learning_rate = 1e-2

    def _init_state(self, student: Student, generator: torch.Generator) -> MMTTAState:
        head = copy.deepcopy(self._head)
        slow, slow_head = (copy.deepcopy(fast).requires_grad_(False).eval() for fast in (student, head))
        trained = train_affine_only(student.requires_grad_(False).backbone, head)
        optimiser = torch.optim.Adam(trained, self.learning_rate)
        return MMTTAState(student, generator, optimiser, head, slow, slow_head)

    def _update(self, state: MMTTAState, inputs: AdaptationInput) -> float:
        logits_3d = state.student.logits(state.student(inputs.points)[inputs.visible])  # (M, classes)
        logits_2d = state.head(inputs.features)  # (M, classes)
        with torch.no_grad():
            slow_3d = state.slow.logits(state.slow(inputs.points)[inputs.visible])
            labels = refine_pseudo_labels(slow_3d, logits_3d, state.slow_head(inputs.features), logits_2d)
        value = gradient_step(cross_entropy(logits_3d, labels) + cross_entropy(logits_2d, labels), state.optimiser)
        ema_update(state.slow.backbone, state.student.backbone, MOMENTUM, statistics=True)
        ema_update(state.slow_head, state.head, MOMENTUM, statistics=True)
        return value


def refine_pseudo_labels(slow_3d: Tensor, fast_3d: Tensor, slow_2d: Tensor, fast_2d: Tensor) -> Tensor:
    """Choose labels (M,) by Inter-PR from the logits (M, classes) of the four models. They are `IGNORED` if both
    modalities are below `MIN_CONSISTENCY`."""
    consistency_3d, consistency_2d = consistency(slow_3d, fast_3d), consistency(slow_2d, fast_2d)
    weight_3d = (consistency_3d / (consistency_3d + consistency_2d))[:, None]
    probabilities = weight_3d * _mean(slow_3d, fast_3d) + (1 - weight_3d) * _mean(slow_2d, fast_2d)
    ignored = torch.maximum(consistency_3d, consistency_2d) < MIN_CONSISTENCY
    return probabilities.argmax(1).masked_fill(ignored, IGNORED)


def consistency(slow: Tensor, fast: Tensor) -> Tensor:
    """Return 1 / KL(slow || fast) and 1 / KL(fast || slow), averaged: (M,) from logits (M, classes)."""
    slow, fast = slow.log_softmax(1), fast.log_softmax(1)
    forward = (slow.exp() * (slow - fast)).sum(1)
    backward = (fast.exp() * (fast - slow)).sum(1)
    return (1 / forward.clamp(min=1e-6) + 1 / backward.clamp(min=1e-6)) / 2


def _mean(slow: Tensor, fast: Tensor) -> Tensor:
    return (slow.softmax(1) + fast.softmax(1)) / 2
