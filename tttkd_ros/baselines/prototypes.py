"""Class prototypes without backpropagation, after D3CTTA (CVPR 2025; public code ZhaoJichun1/D3CTTA)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tttkd_ros.baselines.baseline import IGNORED, AdaptationInput, Baseline, BaselineState
from tttkd_ros.baselines.batch_norm import with_batch_statistics
from tttkd_ros.baselines.xmuda import pseudo_labels
from tttkd_ros.segmenter.student import Student

MOMENTUM = 0.95  # of the prototypes (alpha of the source's code)


class Prototypes(Baseline[BaselineState]):
    """Moves a prototype of each class towards the mean feature of its confident points. It has no gradient.

    As in the source: the features are those that the last layer classifies, with the batch's own statistics. The
    prototypes start as that layer's weights. The source classifier gives the pseudo labels. A prototype is a moving
    average with momentum 0.95.

    The segmenter has to hold `with_prototypes(student)`, so that predictions use the published prototypes.

    Differences from the source: a prediction is the mean of the source classifier's logits and those of the prototypes.
    A batch is predicted before its step. Features are centred by the mean of the class means, because all features of a
    ReLU share a direction. A pseudo label counts if it is among the more confident half of its class or above 0.9, as
    in xMUDA, not if its neighbours agree and its surface normal fits the class. A class has one prototype, not one for
    each of three distances, because the network's voxels have no absolute position. The decorrelation by ridge
    regression on random features, with a memory of domains, is left out.
    """

    def _init_state(self, student: Student, generator: torch.Generator) -> BaselineState:
        return BaselineState(with_prototypes(student).requires_grad_(False).eval(), generator, optimiser=None)

    @torch.no_grad()
    def _update(self, state: BaselineState, inputs: AdaptationInput) -> None:
        head = state.student.class_head
        hidden = head.hidden(state.student.row_features(state.student.prepare(inputs.points)))  # (R, width)
        labels = pseudo_labels(head.classifier(hidden))
        head.prototypes.update({int(label): hidden[labels == label].mean(0)
                                for label in labels.unique() if label != IGNORED})


class PrototypeTable(nn.Module):
    """The prototypes of a linear classifier's classes.

    They start as its weights. The mean of all classes is left out, because it changes no prediction.
    """

    def __init__(self, classifier: nn.Linear):
        super().__init__()
        weight = classifier.weight.detach()
        self.register_buffer("rows", weight - weight.mean(0))  # (classes, width)
        self.register_buffer("center", torch.zeros_like(weight[0]))  # (width,), of the features

    def update(self, means: dict[int, Tensor]) -> None:
        """Move the prototypes of some classes towards mean features (width,). Their lengths stay the same."""
        mean = torch.stack(list(means.values())).mean(0)
        self.center.copy_(self.center.lerp(mean, 1 - MOMENTUM) if self.center.any() else mean)
        for label, feature in means.items():
            row = self.rows[label]
            moved = normalize(row, dim=0).lerp(normalize(feature - self.center, dim=0), 1 - MOMENTUM)
            row.copy_(row.norm() * normalize(moved, dim=0))


class PrototypeHead(nn.Module):
    """A class head whose logits are the mean of its own and those of prototypes."""

    def __init__(self, head: nn.Module, prototypes: PrototypeTable):
        super().__init__()
        self.hidden, self.classifier, self.prototypes = *_split(head), prototypes

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (M, classes) of features (M, channels)."""
        hidden, center = self.hidden(features), self.prototypes.center
        # At the center both agree, so a class is not preferred because its prototype has moved.
        own = (hidden - center) @ self.prototypes.rows.T + self.classifier(center)
        return (self.classifier(hidden) + own) / 2


def with_prototypes(student: Student) -> Student:
    """Return a copy of a student that predicts with prototypes and normalises every sweep with its own statistics.

    The prototypes are part of the backbone, because its tensors are published. A student with prototypes keeps them.
    """
    if isinstance(student.class_head, PrototypeHead):
        return copy.deepcopy(student)
    student = with_batch_statistics(student)
    student.backbone.prototypes = PrototypeTable(_split(student.class_head)[1])
    student.class_head = PrototypeHead(student.class_head, student.backbone.prototypes)
    return student


def _split(head: nn.Module) -> tuple[nn.Module, nn.Linear]:
    """Return the hidden layers of a class head, perhaps none, and its classifier."""
    return (nn.Identity(), head) if isinstance(head, nn.Linear) else (head[:-1], head[-1])
