"""xMUDA at test time (arXiv 1911.12676; a baseline of MM-TTA, arXiv 2204.12667, section 4)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from tttkd_ros.baselines.baseline import IGNORED, AdaptationInput, BaselineState, CrossModalBaseline, gradient_step
from tttkd_ros.baselines.batch_norm import train_affine_only
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.image_head import ImageHead

# lambda_xm on the target and lambda_pl of xMUDA, for A2D2 to SemanticKITTI
CROSS_MODAL_WEIGHT, PSEUDO_LABEL_WEIGHT = 0.01, 1.0
MAX_CONFIDENCE_THRESHOLD = 0.9


@dataclass(eq=False)
class XMudaState(BaselineState):
    """The state of xMUDA."""

    head: ImageHead


class XMuda(CrossModalBaseline[XMudaState]):
    """Trains each branch with its own pseudo labels and with the other branch's predictions.

    As in xMUDA with pseudo labels: KL(other || own) at the visible points, without gradient to the other branch, times
    0.01; of each class the more confident half of the pseudo labels, and all above 0.9; Adam. As in MM-TTA's baseline
    of that name: online, without source data, and only BatchNorm's scale and shift are trained. BatchNorm uses the
    batch's statistics and updates its running ones, which predictions use.

    Differences from the source: see `CrossModalBaseline`. Pseudo labels come from the weights before the update, not
    from a trained model offline. The student's one classifier also mimics the other branch; xMUDA has a second pair of
    heads for that. The loss has no class weights, because the target's class frequencies are not known.
    """

    learning_rate = 3e-4

    def _init_state(self, student: Student, generator: torch.Generator) -> XMudaState:
        head = copy.deepcopy(self._head)
        trained = train_affine_only(student.requires_grad_(False).backbone, head)
        return XMudaState(student, generator, torch.optim.Adam(trained, self.learning_rate), head)

    def _update(self, state: XMudaState, inputs: AdaptationInput) -> float:
        logits_3d = state.student.logits(state.student(inputs.points))  # (N, classes)
        logits_2d = state.head(inputs.features)  # (M, classes)
        visible_3d = logits_3d[inputs.visible]
        cross_modal = _divergence(visible_3d, logits_2d) + _divergence(logits_2d, visible_3d)
        own = cross_entropy(logits_3d, pseudo_labels(logits_3d)) + cross_entropy(logits_2d, pseudo_labels(logits_2d))
        return gradient_step(CROSS_MODAL_WEIGHT * cross_modal + PSEUDO_LABEL_WEIGHT * own, state.optimiser)


@torch.no_grad()
def pseudo_labels(logits: Tensor) -> Tensor:
    """Return (N,) int64, the classes predicted by logits (N, classes), `IGNORED` if the confidence is below the class's
    median and below 0.9 (xMUDA)."""
    confidence, labels = logits.softmax(1).max(1)
    for label in labels.unique():
        of_class = labels == label
        threshold = confidence[of_class].median().clamp(max=MAX_CONFIDENCE_THRESHOLD)
        labels[of_class & (confidence < threshold)] = IGNORED
    return labels


def _divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Return KL(target || logits), mean over rows, without gradient to the target."""
    return kl_div(logits.log_softmax(1), target.detach().log_softmax(1), reduction="batchmean", log_target=True)
