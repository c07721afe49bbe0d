"""BatchNorm statistics that follow the sweeps, beyond the paper, which freezes them."""

from __future__ import annotations

import math

import torch
from torch import nn

from tttkd_ros.segmenter.backbones.base import Prepared
from tttkd_ros.segmenter.injection import Injection
from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.weights import total_norm

MIN_COARSE_CELLS = 8
INITIAL_MOMENTUM, DECAY = 0.1, 0.94  # m_0 and omega of DUA, as in its code


class SweepStatistics:
    """Moves the running mean and variance of every BatchNorm towards those of each sweep.

    They depend on the point cloud alone, so they are updated even if the gradient step is rejected.

    Attributes:
        updates: so far, for the decay of the momentum. The caller counts those that it keeps.
    """

    def __init__(self):
        self.updates = 0

    def update(self, student: Student, prepared: Prepared, min_momentum: float) -> bool:
        """Update the statistics of a student once. The momentum decays to `min_momentum` (`dua_momentum`).

        Returns:
            Whether they were updated: not if the cloud is too small. A result that is not finite is undone.
        """
        if not has_statistics(student, prepared):
            return False
        statistics = [tensor for norm in norms(student.backbone) for tensor in (norm.running_mean, norm.running_var)]
        before = [tensor.clone() for tensor in statistics]
        update_bn_stats(student, prepared, dua_momentum(self.updates + 1, min_momentum))
        if not math.isfinite(total_norm(statistics)):
            for tensor, value in zip(statistics, before, strict=True):
                tensor.copy_(value)
            return False
        return True


def norms(module: nn.Module) -> list[nn.BatchNorm1d]:
    """Return every BatchNorm of a network but those of an injection, whose statistics would collapse while the cameras
    are dead. A network of points has BatchNorm1d only."""
    return [layer for layer in outside_injection(module) if isinstance(layer, nn.BatchNorm1d)]


def outside_injection(module: nn.Module) -> list[nn.Module]:
    """Return every layer of a network but those of an injection."""
    injected = {layer for each in module.modules() if isinstance(each, Injection) for layer in each.modules()}
    return [layer for layer in module.modules() if layer not in injected]


def has_statistics(student: Student, prepared: Prepared) -> bool:
    """Return whether a cloud occupies enough cells of the coarsest level for meaningful statistics."""
    return student.backbone.coarse_cells(prepared) >= MIN_COARSE_CELLS


def dua_momentum(update: int, minimum: float) -> float:
    """Return the momentum of the k-th update, k from 1: 0.1 * 0.94^k + minimum (DUA, arXiv 2112.00463, equations 2 to
    4). It is at most 1, because a larger one could make a variance negative."""
    return min(1.0, INITIAL_MOMENTUM * DECAY**update + minimum)


@torch.no_grad()
def update_bn_stats(student: Student, prepared: Prepared, momentum: float) -> None:
    """Move BatchNorm's running statistics by `momentum` towards those of a batch, which normalise this pass.

    The norms are in eval mode afterwards.
    """
    layers = norms(student.backbone)
    for norm in layers:
        norm.train()
        norm.momentum = momentum
    try:
        student.row_features(prepared)
    finally:
        for norm in layers:
            norm.eval()
