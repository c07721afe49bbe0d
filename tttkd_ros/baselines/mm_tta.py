"""MM-TTA: multi-modal test-time adaptation for 3D semantic segmentation (arXiv 2204.12667); there is no public code."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.adaptation.batch_norm import follow, train_affine_only
from tttkd_ros.adaptation.targets import Teacher
from tttkd_ros.baselines.baseline import Scene, State, descend
from tttkd_ros.baselines.cross_modal import CrossModal
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.image_head import ImageHead

MOMENTUM = 0.99  # of the slow model (lambda)
LEAST = 0.3  # consistency below which no modality is believed (theta)
IGNORED = -100


@dataclass(eq=False)
class MMTTAState(State):
    """student: the slow model of the 3D branch. head: that of the 2D branch. fast, fast_head: the fast ones."""

    head: ImageHead
    fast: Student
    fast_head: ImageHead
    optimiser: torch.optim.Optimizer


class MMTTA(CrossModal[MMTTAState]):
    """Both branches learn from one pseudo label per point, taken from the modality whose two models agree better.

    Intra-PG: per modality a fast model, whose BatchNorm is trained and uses and follows the batch's statistics, and a
    slow one, whose statistics, scales and shifts follow the fast one's with momentum 0.99; the modality's answer is the
    mean of both. Inter-PR, the paper's soft selection: answers weighted by the agreement of their two models (the mean
    of 1 / KL in both directions); a point on which neither modality's exceeds 0.3 is left out. Cross-entropy of both
    fast models with that label. Predictions are the slow 3D model's, with its running statistics.

    Differences: see `CrossModal`. The mean is taken of probabilities, as the two branches' logits have no common
    scale. Adam, as xMUDA, on which the paper builds.
    """

    def __init__(self, student: Student, teacher: Teacher, head: ImageHead, learning_rate: float = 1e-2, seed: int = 0):
        super().__init__(student, teacher, head, learning_rate, seed)

    def _begin(self, student: Student, random: torch.Generator) -> MMTTAState:
        slow, slow_head = student.requires_grad_(False).eval(), copy.deepcopy(self._head).requires_grad_(False).eval()
        fast, fast_head = copy.deepcopy((slow, slow_head))
        trained = train_affine_only(fast.backbone, fast_head)
        return MMTTAState(slow, random, slow_head, fast, fast_head, torch.optim.Adam(trained, self.learning_rate))

    def _update(self, state: MMTTAState, scene: Scene) -> float:
        solid = state.fast.logits(state.fast(scene.points)[scene.visible])
        flat = state.fast_head(scene.features)
        with torch.no_grad():
            slow_solid = state.student.logits(state.student(scene.points)[scene.visible])
            labels = refined(slow_solid, solid, state.head(scene.features), flat)
        loss = cross_entropy(solid, labels, ignore_index=IGNORED) + cross_entropy(flat, labels, ignore_index=IGNORED)
        value = descend(loss, state.optimiser)
        follow(state.student.backbone, state.fast.backbone, MOMENTUM, statistics=True)
        follow(state.head, state.fast_head, MOMENTUM, statistics=True)
        return value


def refined(slow_solid: Tensor, solid: Tensor, slow_flat: Tensor, flat: Tensor) -> Tensor:
    """Inter-PR: (M,) pseudo labels of the slow and fast logits of both modalities, (M, classes) each."""
    in_solid, in_flat = agreement(slow_solid, solid), agreement(slow_flat, flat)
    share = (in_solid / (in_solid + in_flat))[:, None]
    answers = share * _mean(slow_solid, solid) + (1 - share) * _mean(slow_flat, flat)
    return answers.argmax(1).masked_fill(torch.maximum(in_solid, in_flat) < LEAST, IGNORED)


def agreement(slow: Tensor, fast: Tensor) -> Tensor:
    """(M,) one over the Kullback-Leibler divergence of two sets of logits (M, classes), mean of both directions."""
    slow, fast = slow.log_softmax(1), fast.log_softmax(1)
    forth, back = (slow.exp() * (slow - fast)).sum(1), (fast.exp() * (fast - slow)).sum(1)
    return (1 / forth.clamp(min=1e-6) + 1 / back.clamp(min=1e-6)) / 2


def _mean(slow: Tensor, fast: Tensor) -> Tensor:
    return (slow.softmax(1) + fast.softmax(1)) / 2
