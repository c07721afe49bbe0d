"""xMUDA at test time (arXiv 1911.12676; as a baseline of MM-TTA, arXiv 2204.12667, section 4): 3D and 2D branch learn
from pseudo labels and from one another."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from tttkd_ros.adaptation.batch_norm import train_affine_only
from tttkd_ros.adaptation.targets import Teacher
from tttkd_ros.baselines.baseline import Scene, State, descend
from tttkd_ros.baselines.cross_modal import CrossModal
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.image_head import ImageHead

CONSISTENCY, PSEUDO_LABELS = 0.01, 1.0  # lambda_xm on the target and lambda_pl of xMUDA's A2D2 to SemanticKITTI
CERTAIN = 0.9
IGNORED = -100


@dataclass(eq=False)
class XMudaState(State):
    head: ImageHead
    optimiser: torch.optim.Optimizer


class XMuda(CrossModal[XMudaState]):
    """Each branch: cross-entropy with its own pseudo labels, and the divergence from what the other one says.

    As in xMUDA with pseudo labels: KL(other || own), the other without gradient, at the points that the camera sees,
    times 0.01; pseudo labels of which each class keeps the more confident half and whatever is above 0.9; Adam. As in
    MM-TTA's baseline of that name: without source data, online, and only BatchNorm's scale and shift are trained, while
    it uses and follows the batch's statistics; predictions use the running ones.

    Differences: see `CrossModal`. xMUDA makes its pseudo labels offline, with a trained model; here they are those of
    the weights before the update. It has a second pair of heads that mimic the other branch; a student has one
    classifier, which does both. Its loss is weighted by class; here the target's class frequencies are not known.
    """

    def __init__(self, student: Student, teacher: Teacher, head: ImageHead, learning_rate: float = 1e-3, seed: int = 0):
        super().__init__(student, teacher, head, learning_rate, seed)

    def _begin(self, student: Student, random: torch.Generator) -> XMudaState:
        head = copy.deepcopy(self._head)
        trained = train_affine_only(student.requires_grad_(False).backbone, head)
        return XMudaState(student, random, head, torch.optim.Adam(trained, self.learning_rate))

    def _update(self, state: XMudaState, scene: Scene) -> float:
        solid = state.student.logits(state.student(scene.points))
        flat = state.head(scene.features)
        seen = solid[scene.visible]
        consistency = _divergence(seen, flat) + _divergence(flat, seen)
        labelled = cross_entropy(solid, pseudo_labels(solid), ignore_index=IGNORED)
        labelled = labelled + cross_entropy(flat, pseudo_labels(flat), ignore_index=IGNORED)
        return descend(CONSISTENCY * consistency + PSEUDO_LABELS * labelled, state.optimiser)


@torch.no_grad()
def pseudo_labels(logits: Tensor) -> Tensor:
    """(N,) predicted classes, `IGNORED` where the probability is below the class's median and below 0.9 (xMUDA)."""
    confidence, labels = logits.softmax(1).max(1)
    for number in labels.unique():
        mine = labels == number
        limit = confidence[mine].median().clamp(max=CERTAIN)
        labels[mine & (confidence < limit)] = IGNORED
    return labels


def _divergence(logits: Tensor, other: Tensor) -> Tensor:
    """KL(other || own), mean over rows; the other is the target."""
    return kl_div(logits.log_softmax(1), other.detach().log_softmax(1), reduction="batchmean", log_target=True)
