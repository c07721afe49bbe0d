"""Training on several sources at once, each with a BatchNorm of its own (D-DITR, arXiv 2503.18944, section 3.2).

A batch comes from one source. In its step, only the BatchNorm layers of this source compute, learn their scale and
shift, and update their statistics. All other layers are shared.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from tttkd_ros.segmenter.backbones.base import Backbone
from tttkd_ros.training.batches import Batch, Batches
from tttkd_ros.training.objective import Objective


class SourceBatch(NamedTuple):
    """source: number of the source that the batch comes from."""

    source: int
    batch: Batch


@dataclass(frozen=True, eq=False)
class SourceBatches(Dataset):
    """The batch of each step, from one of several sources. All processes draw the same source.

    An epoch has each batch of an epoch of each source once, in an order that the seed draws. So the sources take turns
    in proportion to their frames, and a batch follows from seed and step alone.
    """

    sources: Sequence[Batches]
    seed: int

    @property
    def per_epoch(self) -> int:
        return sum(batches.per_epoch for batches in self.sources)

    def __getitem__(self, step: int) -> SourceBatch:
        """Draw the batch of a step, counted from 0."""
        epoch, place = divmod(step, self.per_epoch)
        turns = np.repeat(np.arange(len(self.sources)), [batches.per_epoch for batches in self.sources])
        turns = np.random.default_rng((self.seed, 4, epoch)).permutation(turns)
        source = int(turns[place])
        batches = self.sources[source]
        return SourceBatch(source, batches[epoch * batches.per_epoch + int((turns[:place] == source).sum())])


class SourceObjective(Objective):
    """The losses of a batch of one source, with the BatchNorm layers of this source."""

    def forward(self, batch: SourceBatch) -> dict[str, Tensor]:
        for layer in self.student.backbone.modules():
            if isinstance(layer, SourceNorm):
                layer.source = batch.source
        return super().forward(batch.batch)


class SourceNorm(nn.ModuleList):
    """A BatchNorm for each source. source: number of the one that computes."""

    source = 0

    def forward(self, rows: Tensor) -> Tensor:
        return self[self.source](rows)


def split_norms(backbone: Backbone, sources: int) -> None:
    """Replace each BatchNorm of a backbone by a copy for each source; one source needs none."""
    if sources > 1:
        _replace(backbone, nn.BatchNorm1d, lambda norm: SourceNorm([norm, *(copy.deepcopy(norm)
                                                                            for _ in range(sources - 1))]))


def keep_first_norms(backbone: Backbone) -> None:
    """Undo `split_norms`: keep the BatchNorm of the first source."""
    _replace(backbone, SourceNorm, lambda norms: norms[0])


def _replace(module: nn.Module, kind: type[nn.Module], make) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, kind):
                setattr(parent, name, make(child))
