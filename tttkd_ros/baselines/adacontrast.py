"""AdaContrast: contrastive test-time adaptation (arXiv 2204.10377; public code DianCh/AdaContrast)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from tttkd_ros.baselines.augmentation import strong_augmentation, weak_augmentation
from tttkd_ros.baselines.baseline import AdaptationInput, Baseline, BaselineState, gradient_step
from tttkd_ros.baselines.batch_norm import ema_update, follow_batches
from tttkd_ros.segmenter.student import Student

MOMENTUM = 0.999  # of the momentum encoder
QUEUE_SIZE = 16384  # rows
NEIGHBOURS = 10
TEMPERATURE = 0.07
MAX_POINTS = 512  # per sweep


@dataclass(eq=False)
class AdaContrastState(BaselineState):
    """The state of AdaContrast. Both queues hold points, oldest first: one to vote with, one of keys to contrast."""

    encoder: Student  # the momentum encoder
    features: Tensor  # (K, channels): the momentum encoder's, of weakly augmented sweeps
    probabilities: Tensor  # (K, classes): predicted from `features`
    keys: Tensor  # (Q, channels), unit length: the momentum encoder's, of strongly augmented sweeps
    key_labels: Tensor  # (Q,): the pseudo labels of `keys`


class AdaContrast(Baseline[AdaContrastState]):
    """Learns from pseudo labels voted by neighbours in feature space, and by contrast with a momentum encoder.

    As in the source: the loss is the sum of three terms, each with weight 1. First, the cross-entropy of a strongly
    augmented sweep with pseudo labels, which the 10 nearest of 16,384 stored features vote for (soft, cosine) in a
    weakly augmented sweep. Second, InfoNCE (temperature 0.07) of the strongly augmented sweep against another one in
    the momentum encoder (0.999) and a queue of 16,384 keys, without keys of the same pseudo label. Third, the negative
    entropy of the mean prediction, against collapse. SGD with Nesterov momentum 0.9 and weight decay 1e-4 trains the
    whole backbone. BatchNorm uses the batch's statistics and updates its running ones, which predictions use.

    Differences from the source: samples are points instead of images, 512 drawn from each sweep. The contrasted
    features are the backbone's 16 channels, not 256. The classifier is frozen, because only the backbone's weights are
    published. Both queues start empty, because the target is not known beforehand. The learning rate is constant,
    because a stream has no end for a cosine schedule.
    """

    learning_rate = 3e-3

    def _init_state(self, student: Student, generator: torch.Generator) -> AdaContrastState:
        follow_batches(student.requires_grad_(False))
        trained = list(student.backbone.requires_grad_(True).parameters())
        optimiser = torch.optim.SGD(trained, self.learning_rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
        channels, classes = student.backbone.channels, len(student.config.class_set)
        empty = student.teacher_mean.new_empty(0, channels)
        return AdaContrastState(student, generator, optimiser, encoder=copy.deepcopy(student).requires_grad_(False),
                                features=empty, probabilities=empty.new_empty(0, classes),
                                keys=empty, key_labels=empty.new_empty(0, dtype=torch.int64))

    def _update(self, state: AdaContrastState, inputs: AdaptationInput) -> float:
        student, encoder, points, generator = state.student, state.encoder, inputs.points, state.generator
        sample = torch.randperm(len(points), generator=generator)[:MAX_POINTS].to(points.xyz.device)
        max_offset = student.coarsest_cell
        weak_view = weak_augmentation(points, generator, max_offset)
        query_view = strong_augmentation(points, generator, max_offset)
        key_view = strong_augmentation(points, generator, max_offset)
        with torch.no_grad():
            features = student(weak_view.points, [weak_view.offset])[sample]
            probabilities = student.logits(features).softmax(1)
            labels = vote_pseudo_labels(features, probabilities, state.features, state.probabilities)
            ema_update(encoder.backbone, student.backbone, MOMENTUM, statistics=False)
            keys = normalize(encoder(key_view.points, [key_view.offset])[sample], dim=1)
        features = student(query_view.points, [query_view.offset])[sample]
        logits = student.logits(features)
        mean = logits.softmax(1).mean(0)
        contrast = contrastive_loss(normalize(features, dim=1), keys, labels, state.keys, state.key_labels)
        loss = cross_entropy(logits, labels) + contrast + (mean * (mean + 1e-8).log()).sum()
        value = gradient_step(loss, state.optimiser)
        with torch.no_grad():
            features = encoder(weak_view.points, [weak_view.offset])[sample]
            state.features = _enqueue(state.features, features)
            state.probabilities = _enqueue(state.probabilities, student.logits(features).softmax(1))
            state.keys, state.key_labels = _enqueue(state.keys, keys), _enqueue(state.key_labels, labels)
        return value


def vote_pseudo_labels(features: Tensor, probabilities: Tensor, stored: Tensor, stored_probabilities: Tensor) -> Tensor:
    """Return (B,) int64, the class with the highest mean probability among the nearest stored features.

    Features are (B, channels) and stored (K, channels), each with probabilities of the classes. The features' own count
    while fewer than `NEIGHBOURS` are stored.
    """
    if len(stored) >= NEIGHBOURS:
        similarity = normalize(features, dim=1) @ normalize(stored, dim=1).T
        probabilities = stored_probabilities[similarity.topk(NEIGHBOURS, dim=1).indices].mean(1)
    return probabilities.argmax(1)


def contrastive_loss(queries: Tensor, keys: Tensor, labels: Tensor, queue: Tensor, queue_labels: Tensor) -> Tensor:
    """Return the mean InfoNCE loss of queries (B, channels) with their positives, the keys, and a queue (Q, channels).

    All rows have unit length. Queue rows with the query's pseudo label are no negatives.
    """
    positive = (queries * keys).sum(1, keepdim=True)
    negative = (queries @ queue.T).masked_fill(labels[:, None] == queue_labels, -torch.inf)
    return cross_entropy(torch.cat([positive, negative], 1) / TEMPERATURE, torch.zeros_like(labels))


def _enqueue(queue: Tensor, rows: Tensor) -> Tensor:
    return torch.cat([queue, rows.detach()])[-QUEUE_SIZE:]
