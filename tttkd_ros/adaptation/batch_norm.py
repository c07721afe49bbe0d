"""BatchNorm at test time: what the methods that came before TTT-KD change of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from tttkd_ros.segmenter.student import Student
from tttkd_ros.segmenter.voxels import Voxels, keys_of

COARSE = 8  # occupied voxels
FIRST, DECAY = 0.1, 0.94  # DUA's m_0 and omega, as in its code


def norms(module: nn.Module) -> list[nn.BatchNorm1d]:
    """Every BatchNorm of a network. A sparse 3D net has only BatchNorm1d: a search for BatchNorm2d finds nothing."""
    return [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm1d)]


def train_affine_only(*modules: nn.Module) -> list[nn.Parameter]:
    """Freeze all but BatchNorm's scale and shift, and return those.

    Everything is put in train mode: in eval mode spconv's kernels bypass autograd (spconv issues 668, 675), and
    BatchNorm then normalises with the batch's statistics and lets its running ones follow.
    """
    trained = []
    for module in modules:
        module.requires_grad_(False).train()
        for norm in norms(module):
            trained += [norm.weight.requires_grad_(), norm.bias.requires_grad_()]
    return trained


class BatchStatistics(nn.BatchNorm1d):
    """BatchNorm that normalises with the batch's own mean and variance, in train and eval mode alike.

    Its running statistics stay as they are. They are used where the batch is a single row, which has no variance.
    """

    def forward(self, rows: Tensor) -> Tensor:
        own = len(rows) > 1
        running = (None, None) if own else (self.running_mean, self.running_var)
        return functional.batch_norm(rows, *running, self.weight, self.bias, training=own, eps=self.eps)


def with_batch_statistics(student: Student) -> Student:
    """A copy of a student that normalises every sweep with the sweep's own statistics; its tensors keep their names."""
    student = copy.deepcopy(student)
    for parent in list(student.backbone.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm1d:
                twin = BatchStatistics(child.num_features, child.eps).to(child.weight.device)
                twin.load_state_dict(child.state_dict())
                setattr(parent, name, twin)
    return student


def has_statistics(student: Student, voxels: Voxels) -> bool:
    """Whether a cloud occupies `COARSE` voxels of the deepest level, so that its statistics mean anything."""
    coarse = voxels.indices.long() >> (student.config.levels - 1)
    return len(torch.unique(keys_of(0, *coarse.T[1:]))) >= COARSE


def deepest_voxel(student: Student) -> float:
    """Metres."""
    return student.config.voxel_size * 2 ** (student.config.levels - 1)


def dua_momentum(update: int, least: float) -> float:
    """Of the k-th update, k from 1: 0.1 * 0.94^k + least (DUA, arXiv 2112.00463, equations 2 to 4), 1 at most."""
    return min(1.0, FIRST * DECAY**update + least)  # beyond 1, a variance could become negative


@torch.no_grad()
def update_bn_stats(student: Student, voxels: Voxels, momentum: float) -> None:
    """Let BatchNorm's running statistics go this share of the way to those of a batch, which its own normalise.

    The norms are in eval mode afterwards.
    """
    layers = norms(student.backbone)
    for norm in layers:
        norm.train()
        norm.momentum = momentum
    try:
        student.voxel_features(voxels)
    finally:
        for norm in layers:
            norm.eval()


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float, *, statistics: bool) -> None:
    """slow = momentum * slow + (1 - momentum) * fast: all parameters, and BatchNorm's statistics if asked for."""
    tensors = nn.Module.state_dict if statistics else lambda module: dict(module.named_parameters())
    for mine, theirs in zip(tensors(slow).values(), tensors(fast).values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - momentum)
