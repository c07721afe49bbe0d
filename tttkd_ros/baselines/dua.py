"""DUA: dynamic unsupervised adaptation by normalisation (arXiv 2112.00463; public code jmiemirza/DUA)."""

from __future__ import annotations

import torch

from tttkd_ros.adaptation.batch_norm import dua_momentum, update_bn_stats
from tttkd_ros.baselines.augmentation import weak_augmentation
from tttkd_ros.baselines.baseline import AdaptationInput, Baseline, BaselineState
from tttkd_ros.segmenter.student import Student

MIN_MOMENTUM = 0.005  # zeta of the paper, as in its code
BATCH_SIZE = 4  # augmented copies of a sweep


class Dua(Baseline[BaselineState]):
    """Updates BatchNorm's running mean and variance from the target. It has no gradient and learns nothing else.

    The k-th update, counted from 1, mixes in the statistics of a batch with momentum 0.1 * 0.94^k + 0.005 (equations 2
    to 4). Predictions use the running statistics. A batch is made of one sample by augmentation.

    Differences from the source: it augments a sweep 4 times, because a cloud has thousands of rows for the statistics.
    A copy is mirrored, turned by quarters about z and has other voxels. The source augments an image 64 times by crops,
    flips and quarter turns. It stops after 80 samples and reports its best test score on the way; here adaptation goes
    on for as long as sweeps arrive, and labels are never used.
    """

    def _init_state(self, student: Student, generator: torch.Generator) -> BaselineState:
        return BaselineState(student.requires_grad_(False).eval(), generator, optimiser=None)

    def _update(self, state: BaselineState, inputs: AdaptationInput) -> None:
        max_offset = state.student.coarsest_cell
        batch = [weak_augmentation(inputs.points, state.generator, max_offset) for _ in range(BATCH_SIZE)]
        prepared = state.student.prepare([cloud.points for cloud in batch], [cloud.offset for cloud in batch])
        update_bn_stats(state.student, prepared, dua_momentum(state.updates, MIN_MOMENTUM))
