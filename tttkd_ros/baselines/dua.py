"""DUA: dynamic unsupervised adaptation by normalisation (arXiv 2112.00463; public code jmiemirza/DUA)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tttkd_ros.adaptation.batch_norm import dua_momentum, update_bn_stats
from tttkd_ros.baselines.augmentation import weak
from tttkd_ros.baselines.baseline import Baseline, Scene, State
from tttkd_ros.segmenter.student import Student

LEAST = 0.005  # zeta of the paper, as in its code
COPIES = 4  # of a sweep in its batch


@dataclass(eq=False)
class DuaState(State):
    updates: int = 0


class Dua(Baseline[DuaState]):
    """Lets BatchNorm's running mean and variance follow the target; learns nothing else and has no gradient.

    The k-th update, k from 1, mixes in the statistics of a batch with momentum 0.1 * 0.94^k + 0.005 (equations 2 to 4);
    predictions use the running statistics. The batch is made of one sample, by augmentation.

    Differences: the source augments an image 64 times by crops, flips and quarter turns; here a sweep 4 times by
    mirroring, quarter turns about the vertical and shifts, as a cloud has thousands of rows for the statistics where an
    image is one sample. The source stops after 80 samples and its code reports the best of its test scores on the way;
    here it goes on for as long as sweeps come, and nothing looks at the truth.
    """

    def __init__(self, student: Student, seed: int = 0):
        super().__init__(student, seed=seed)

    def _begin(self, student: Student, random: torch.Generator) -> DuaState:
        return DuaState(student.requires_grad_(False).eval(), random)

    def _update(self, state: DuaState, scene: Scene) -> None:
        state.updates += 1
        batch = [weak(scene.points, state.random) for _ in range(COPIES)]
        update_bn_stats(state.student, state.student.voxels(batch), dua_momentum(state.updates, LEAST))
