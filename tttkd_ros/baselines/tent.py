"""TENT: test-time adaptation by entropy minimisation (arXiv 2006.10726; public code DequanWang/tent)."""

from __future__ import annotations

import torch

from tttkd_ros.baselines.baseline import AdaptationInput, Baseline, BaselineState, gradient_step
from tttkd_ros.baselines.batch_norm import train_affine_only, with_batch_statistics
from tttkd_ros.segmenter.student import Student


class Tent(Baseline[BaselineState]):
    """Minimises the mean entropy of the predictions through the scale and shift of the norms (the paper's section 3.1).

    As in the source: learning and prediction use the batch's own statistics, Adam has no weight decay, each batch gets
    one step, and a batch is predicted before its step. A batch is one sweep.

    The segmenter has to hold `with_batch_statistics(student)`, so that predictions use the sweep's own statistics. The
    published running statistics are the student's and remain unused.

    Differences from the source: it trains all BatchNorm1d and LayerNorm layers of the backbone (the public code selects
    BatchNorm2d, which a network of points does not have), and the learning rate.
    """

    learning_rate = 3e-3

    def _init_state(self, student: Student, generator: torch.Generator) -> BaselineState:
        student = with_batch_statistics(student)
        trained = train_affine_only(student.requires_grad_(False).backbone)
        return BaselineState(student, generator, torch.optim.Adam(trained, self.learning_rate))

    def _update(self, state: BaselineState, inputs: AdaptationInput) -> float:
        logits = state.student.logits(state.student(inputs.points))
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        return gradient_step(entropy.mean(), state.optimiser)
