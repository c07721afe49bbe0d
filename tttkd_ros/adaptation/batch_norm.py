"""BatchNorm at test time: what the methods that came before TTT-KD change of a network."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from tttkd_ros.segmenter.student import Student


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


class SeenStatistics:
    """Mean and variance of what each BatchNorm of a network was last given; for those in eval mode, whose running ones
    follow only when they are asked to. A single row has no variance, and is passed over."""

    def __init__(self, module: nn.Module):
        self._last: dict[nn.BatchNorm1d, tuple[Tensor, Tensor]] = {}
        for norm in norms(module):
            norm.register_forward_pre_hook(self._look)

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """running = (1 - momentum) * running + momentum * last"""
        for norm, (variance, mean) in self._last.items():
            norm.running_mean.lerp_(mean, momentum)
            norm.running_var.lerp_(variance, momentum)

    def _look(self, norm: nn.BatchNorm1d, inputs: tuple[Tensor]) -> None:
        rows = inputs[0].detach()
        if len(rows) > 1:
            self._last[norm] = torch.var_mean(rows, 0)


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float, *, statistics: bool) -> None:
    """slow = momentum * slow + (1 - momentum) * fast: all parameters, and BatchNorm's statistics if asked for."""
    tensors = nn.Module.state_dict if statistics else lambda module: dict(module.named_parameters())
    for mine, theirs in zip(tensors(slow).values(), tensors(fast).values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - momentum)
