"""AdaContrast: contrastive test-time adaptation (arXiv 2204.10377; public code DianCh/AdaContrast)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tttkd_ros.adaptation.batch_norm import follow
from tttkd_ros.baselines.augmentation import strong, weak
from tttkd_ros.baselines.baseline import Baseline, Scene, State, descend
from tttkd_ros.segmenter.student import Student

MOMENTUM = 0.999  # of the key encoder
MEMORY = 16384  # rows of both queues
NEIGHBOURS = 10
TEMPERATURE = 0.07
BUDGET = 512  # points of a sweep


@dataclass(eq=False)
class AdaContrastState(State):
    """encoder: the momentum encoder. features, probabilities: (K, channels) and (K, classes), its answers to weak
    views, that pseudo labels are voted from. keys, key_labels: (K, channels) and (K,), its normalised answers to strong
    views and their pseudo labels, that queries are held against. Rows are points, oldest first.
    """

    optimiser: torch.optim.Optimizer
    encoder: Student
    features: Tensor
    probabilities: Tensor
    keys: Tensor
    key_labels: Tensor


class AdaContrast(Baseline[AdaContrastState]):
    """Learns from pseudo labels that neighbours in feature space vote for, and by contrast with a momentum encoder.

    As in the source: pseudo labels of a weakly augmented view by soft voting among the 10 nearest of 16,384 remembered
    features (cosine); cross-entropy of a strongly augmented view with them; InfoNCE (temperature 0.07) of that view
    against the momentum encoder's (0.999) of another strong view and a queue of 16,384 keys, less those of the same
    pseudo label; the negative entropy of the mean prediction against collapse; the sum of the three, each with weight
    1, by SGD with Nesterov momentum 0.9 and weight decay 1e-4 on all weights of the backbone. BatchNorm uses and
    follows the batch's statistics; predictions use the running ones.

    Differences: the source's samples are images, here they are points, 512 drawn from each sweep. The contrasted
    features are the backbone's 16, not 256. The classifier stays frozen, as only the backbone's weights are handed
    over. Both memories start empty and fill with the stream, as the target cannot be seen beforehand to fill them. One
    pass at a constant learning rate: a stream has no end for a cosine schedule to lead to.
    """

    def __init__(self, student: Student, learning_rate: float = 2e-4, seed: int = 0):
        super().__init__(student, learning_rate, seed)

    def _begin(self, student: Student, random: torch.Generator) -> AdaContrastState:
        trained = list(student.requires_grad_(False).train().backbone.requires_grad_(True).parameters())
        optimiser = torch.optim.SGD(trained, self.learning_rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
        channels, classes = student.config.base_channels, len(student.config.classes)
        nothing = student.teacher_mean.new_empty(0, channels)
        return AdaContrastState(
            student, random, optimiser,
            encoder=copy.deepcopy(student).requires_grad_(False),
            features=nothing, probabilities=nothing.new_empty(0, classes),
            keys=nothing, key_labels=nothing.new_empty(0, dtype=torch.int64),
        )

    def _update(self, state: AdaContrastState, scene: Scene) -> float:
        student, encoder = state.student, state.encoder
        drawn = torch.randperm(len(scene.points), generator=state.random)[:BUDGET].to(scene.points.device)
        easy, query, other = (make(scene.points, state.random) for make in (weak, strong, strong))
        with torch.no_grad():
            features = student(easy)[drawn]
            labels = voted(features, student.logits(features).softmax(1), state.features, state.probabilities)
            follow(encoder.backbone, student.backbone, MOMENTUM, statistics=False)
            keys = normalize(encoder(other)[drawn], dim=1)
        features = student(query)[drawn]
        logits = student.logits(features)
        mean = logits.softmax(1).mean(0)
        loss = (
            cross_entropy(logits, labels)
            + contrast(normalize(features, dim=1), keys, labels, state.keys, state.key_labels)
            + (mean * (mean + 1e-8).log()).sum()
        )
        value = descend(loss, state.optimiser)
        with torch.no_grad():
            features = encoder(easy)[drawn]
            state.features = _remember(state.features, features)
            state.probabilities = _remember(state.probabilities, student.logits(features).softmax(1))
            state.keys, state.key_labels = _remember(state.keys, keys), _remember(state.key_labels, labels)
        return value


def voted(features: Tensor, own: Tensor, remembered: Tensor, probabilities: Tensor) -> Tensor:
    """(B,) pseudo labels of features (B, channels): the class of the highest mean probability among the nearest
    neighbours in memory, or among their own probabilities (B, classes) while the memory holds too few."""
    if len(remembered) >= NEIGHBOURS:
        similarity = normalize(features, dim=1) @ normalize(remembered, dim=1).T
        own = probabilities[similarity.topk(NEIGHBOURS, dim=1).indices].mean(1)
    return own.argmax(1)


def contrast(queries: Tensor, keys: Tensor, labels: Tensor, queue: Tensor, queue_labels: Tensor) -> Tensor:
    """InfoNCE, mean over B queries: (B, channels) against their keys (B, channels) and a queue (Q, channels), less the
    queue's rows that share the query's pseudo label. All rows are of unit length."""
    positive = (queries * keys).sum(1, keepdim=True)
    negative = (queries @ queue.T).masked_fill(labels[:, None] == queue_labels, -torch.inf)
    return cross_entropy(torch.cat([positive, negative], 1) / TEMPERATURE, torch.zeros_like(labels))


def _remember(queue: Tensor, rows: Tensor) -> Tensor:
    return torch.cat([queue, rows.detach()])[-MEMORY:]
