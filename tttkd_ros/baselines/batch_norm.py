"""Normalisation as the baselines use it: trained alone, with the statistics of the batch, or as a moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from tttkd_ros.adaptation.batch_norm import norms, outside_injection
from tttkd_ros.segmenter.backbones.base import gradients_only
from tttkd_ros.segmenter.student import Student


def follow_batches(module: nn.Module) -> nn.Module:
    """Let BatchNorm normalise with the statistics of the batch, which its running statistics follow, and everything
    else compute as in evaluation. Return the module."""
    for norm in norms(gradients_only(module)):
        norm.train()
    return module


def train_affine_only(*modules: nn.Module) -> list[nn.Parameter]:
    """Freeze all but the scale and shift of every BatchNorm and LayerNorm outside an injection, and return those.

    BatchNorm normalises with the statistics of the batch, and its running statistics follow them.
    """
    trained = []
    for module in modules:
        follow_batches(module.requires_grad_(False))
        for norm in outside_injection(module):
            if isinstance(norm, (nn.BatchNorm1d, nn.LayerNorm)):
                trained += [parameter.requires_grad_() for parameter in norm.parameters()]
    return trained


class BatchStatistics(nn.BatchNorm1d):
    """BatchNorm that normalises with the mean and variance of the batch, in train and eval mode.

    Its running statistics never change. They are used for a batch of one row, which has no variance.
    """

    def forward(self, rows: Tensor) -> Tensor:
        use_batch = len(rows) > 1
        running = (None, None) if use_batch else (self.running_mean, self.running_var)
        return functional.batch_norm(rows, *running, self.weight, self.bias, training=use_batch, eps=self.eps)


def with_batch_statistics(student: Student) -> Student:
    """Return a copy of a student that normalises every sweep with its own statistics, but for those of an injection,
    which sees images. Tensor names stay the same."""
    student = copy.deepcopy(student)
    for parent in outside_injection(student.backbone):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm1d:
                norm = BatchStatistics(child.num_features, child.eps).to(child.weight.device)
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm)
    return student


@torch.no_grad()
def ema_update(slow: nn.Module, fast: nn.Module, momentum: float, *, statistics: bool) -> None:
    """Set slow = momentum * slow + (1 - momentum) * fast, for all parameters and, on request, all statistics."""
    tensors = nn.Module.state_dict if statistics else lambda module: dict(module.named_parameters())
    for average, value in zip(tensors(slow).values(), tensors(fast).values(), strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 - momentum)
