"""TENT: test-time adaptation by entropy minimisation (arXiv 2006.10726; public code DequanWang/tent)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tttkd_ros.adaptation.batch_norm import train_affine_only, with_batch_statistics
from tttkd_ros.baselines.baseline import Baseline, Scene, State, descend
from tttkd_ros.segmenter.student import Student


@dataclass(eq=False)
class TentState(State):
    optimiser: torch.optim.Optimizer


class Tent(Baseline[TentState]):
    """Lowers the entropy of the predictions by BatchNorm's scale and shift alone (section 3.1 of the paper).

    As in the source: the batch's own statistics at learning and at prediction, Adam without weight decay, one step per
    batch, and a batch is answered before its step. A batch is one sweep, its mean entropy that of all points.

    For the predictions to use the sweep's own statistics, the segmenter is to hold `with_batch_statistics(student)`;
    the running statistics that are published are those of the student, unused. Differences: all BatchNorm1d layers of
    the backbone (the public code looks for BatchNorm2d, of which a sparse network has none); the learning rate.
    """

    def __init__(self, student: Student, learning_rate: float = 3e-3, seed: int = 0):
        super().__init__(with_batch_statistics(student), learning_rate, seed)

    def _begin(self, student: Student, random: torch.Generator) -> TentState:
        trained = train_affine_only(student.requires_grad_(False).backbone)
        return TentState(student, random, torch.optim.Adam(trained, self.learning_rate))

    def _update(self, state: TentState, scene: Scene) -> float:
        logits = state.student.logits(state.student(scene.points))
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        return descend(entropy.mean(), state.optimiser)
