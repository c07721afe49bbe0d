"""The losses of training, each a function of the points of a batch. All of them are 0 if no point counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tttkd_ros.adaptation.ttt_kd import distillation_loss
from tttkd_ros.classes import UNLABELLED


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Return L_Y of logits (N, classes) and labels (N,) int64, with class weights (classes,) and label smoothing."""
    if not (labels != UNLABELLED).any():
        return logits.sum() * 0
    return functional.cross_entropy(logits, labels, weights, ignore_index=UNLABELLED, label_smoothing=smoothing)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the Lovasz-Softmax loss (arXiv 1705.08790), mean over the classes that occur, of logits (N, classes) and
    labels (N,) int64."""
    known = labels != UNLABELLED
    probabilities, labels = logits[known].softmax(1), labels[known]
    losses = []
    for present in labels.unique():
        truth = (labels == present).to(probabilities)
        errors, order = (truth - probabilities[:, present]).abs().sort(descending=True)
        truth = truth[order]
        # The Jaccard loss if the points with the largest errors, up to each one, are the wrong ones.
        jaccard = 1 - (truth.sum() - truth.cumsum(0)) / (truth.sum() + (1 - truth).cumsum(0))
        gradient = torch.cat([jaccard[:1], jaccard.diff()])
        losses.append((errors * gradient).sum())
    return torch.stack(losses).mean() if losses else logits.sum() * 0


def distillation(predicted: Tensor, target: Tensor) -> Tensor:
    """Return L_2D of predicted and teacher features (M, dim). Without points it has a gradient of 0, so that all
    processes of a distributed training reduce the same gradients."""
    return distillation_loss(predicted, target) if len(predicted) else predicted.sum() * 0


def class_weights(counts: Tensor) -> Tensor:
    """Return ENet's logarithmic weights (classes,), mean 1, of the number of points of each class (classes,)."""
    weights = 1 / torch.log(1.1 + counts / counts.sum())
    return weights / weights.mean()
