"""Batches of augmented frames. A batch depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.voxels import in_grid
from tttkd_ros.training.augmentation import Augmentation, Sample, augment, crop, keep, mixed
from tttkd_ros.training.prepared import PreparedFrame, read_frame


class Batch(NamedTuple):
    """Augmented clouds in one row of tensors, which any process can take.

    xyz: (sum N, 3), metres, z up. features: name -> (sum N, C). counts: points of each cloud. offsets: (clouds, 3),
    metres, see `Backbone.prepare`. labels: (sum N,) int64. visible: (sum M,) int64, rows of the points with a target.
    targets: (sum M, dim) float16, the teacher's features at these; or None. images: (K, height, width, 3) uint8 that
    they are to be computed of, and patch: (sum M,) int64, rows of (K * rows * columns); or None.
    """

    xyz: Tensor
    features: dict[str, Tensor]
    counts: list[int]
    offsets: Tensor
    labels: Tensor
    visible: Tensor
    targets: Tensor | None = None
    images: Tensor | None = None
    patch: Tensor | None = None

    def clouds(self) -> list[Points]:
        parts = {name: values.split(self.counts) for name, values in self.features.items()}
        return [Points(xyz, {name: values[number] for name, values in parts.items()})
                for number, xyz in enumerate(self.xyz.split(self.counts))]


@dataclass(frozen=True)
class BatchSettings:
    """How batches are drawn.

    size: clouds of a batch, of each process. seed: of all draws. offset: by which voxels move at most, metres.
    voxel_size: metres. kd_points: visible points with a target in each cloud, at most. patches: of an image of the
    teacher; 0 without one. box: see `crop`; empty for all points.
    """

    size: int
    seed: int
    offset: float
    voxel_size: float
    kd_points: int
    patches: int
    box: tuple[float, ...] = ()
    augmentation: Augmentation = Augmentation()


@dataclass(frozen=True, eq=False)
class Batches(Dataset):
    """The batch of each step. An epoch has each frame at most once.

    frames: files, see `read_frame`. rank: of this process, among `ranks`. All of them together draw what one process
    with a `size` of all draws; but for Mix3D if `size` is odd.
    """

    frames: Sequence[Path]
    settings: BatchSettings
    rank: int = 0
    ranks: int = 1

    def __post_init__(self):
        if len(self.frames) < (needed := self.settings.size * self.ranks):
            raise ValueError(f"there are {len(self.frames)} frames, but a step takes {needed}: name more --data, or "
                             "choose a smaller --batch")

    @property
    def per_epoch(self) -> int:
        return len(self.frames) // (self.settings.size * self.ranks)

    def __getitem__(self, step: int) -> Batch:
        """Draw the batch of a step, counted from 0."""
        size, seed = self.settings.size, self.settings.seed
        order = np.random.default_rng((seed, step // self.per_epoch)).permutation(len(self.frames))
        first = step % self.per_epoch * size * self.ranks
        places = range(self.rank * size, (self.rank + 1) * size)  # in the batch of all processes
        frames = [read_frame(self.frames[order[first + place]]) for place in places]
        samples = [self._sample(frame, np.random.default_rng((seed, 1, step, place)))
                   for frame, place in zip(frames, places, strict=True)]
        generator = np.random.default_rng((seed, 2, step, self.rank))
        counts = mixed([len(sample.points) for sample in samples], self.settings.augmentation.mix3d, generator)
        offsets = torch.from_numpy(generator.uniform(0, self.settings.offset, (len(counts), 3))).float()
        starts = np.cumsum([0, *(len(sample.points) for sample in samples[:-1])])
        batch = Batch(
            torch.cat([sample.points.xyz for sample in samples]),
            {name: torch.cat([sample.points.features[name] for sample in samples])
             for name in samples[0].points.features},
            counts, offsets, torch.cat([sample.labels for sample in samples]),
            torch.cat([sample.visible + int(start) for sample, start in zip(samples, starts, strict=True)]),
        )
        return self._with_targets(batch, frames, samples)

    def _sample(self, frame: PreparedFrame, generator: np.random.Generator) -> Sample:
        sample = correspondences(frame, self.settings.patches, generator)
        if self.settings.box:
            sample = crop(sample, self.settings.box)
        sample = augment(sample, self.settings.augmentation, generator)
        sample = keep(sample, in_grid(sample.points.xyz, self.settings.voxel_size))
        chosen = torch.from_numpy(generator.permutation(len(sample.visible))[: self.settings.kd_points])
        return sample._replace(visible=sample.visible[chosen], patch=sample.patch[chosen])

    def _with_targets(self, batch: Batch, frames: Sequence[PreparedFrame], samples: Sequence[Sample]) -> Batch:
        if not self.settings.patches:
            return batch
        if frames[0].maps is not None:
            return batch._replace(targets=torch.cat([
                frame.maps.flatten(0, 1)[sample.patch] for frame, sample in zip(frames, samples, strict=True)
            ]))
        rows = np.cumsum([0, *(len(frame.images) * self.settings.patches for frame in frames[:-1])])
        return batch._replace(
            images=torch.cat([frame.images for frame in frames]),
            patch=torch.cat([sample.patch + int(row) for sample, row in zip(samples, rows, strict=True)]),
        )


def correspondences(frame: PreparedFrame, patches: int, generator: np.random.Generator) -> Sample:
    """Find the visible points of a frame and the rows of the teacher's features that belong to them.

    If several cameras see a point, one of them is drawn at random (DITR, arXiv 2503.18944, section 3.1). patches: of an
    image.
    """
    labels = torch.full((len(frame.points),), UNLABELLED) if frame.labels is None else frame.labels.long()
    seen = frame.patches.numpy() >= 0
    priority = np.where(seen, generator.random(seen.shape), -1)
    view = torch.from_numpy(priority.argmax(0)) if len(seen) else torch.zeros(len(labels), dtype=torch.int64)
    visible = torch.from_numpy(np.flatnonzero(seen.any(0)))
    patch = frame.patches[view[visible], visible].long() + view[visible] * patches
    return Sample(frame.points, labels, visible, patch)
