"""Batches of augmented frames. A batch depends on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.voxels import in_grid
from tttkd_ros.training.augmentation import Augmentation, Sample, augment, crop, keep, mixed
from tttkd_ros.training.prepared import PreparedFrame, read_frame


class Batch(NamedTuple):
    """Augmented clouds in one row of tensors, which any process can take.

    xyz: (sum N, 3), metres, z up. features: name -> (sum N, C). counts: points of each cloud. offsets: (clouds, 3),
    metres, see `Backbone.prepare`. labels: (sum N,) int64. visible: (sum M,) int64, rows of the points with a target.
    patch: (sum M,) int64, rows of the table of their targets. injected: (sum N,) int64, rows of the table that a
    student with injection gets, -1 for points that no camera sees; None without injection. table: (P, dim) float16, the
    teacher's features; None without a teacher, or if they are to be computed of `images`: (K, height, width, 3) uint8,
    with P = K * rows * columns.
    """

    xyz: Tensor
    features: dict[str, Tensor]
    counts: list[int]
    offsets: Tensor
    labels: Tensor
    visible: Tensor
    patch: Tensor
    injected: Tensor | None = None
    table: Tensor | None = None
    images: Tensor | None = None

    def clouds(self, table: Tensor | None = None) -> list[Points]:
        """Return the clouds. table: (P, dim) float32, see above; None leaves out the image features."""
        parts = {name: values.split(self.counts) for name, values in self.features.items()}
        clouds = [Points(xyz, {name: values[number] for name, values in parts.items()})
                  for number, xyz in enumerate(self.xyz.split(self.counts))]
        if table is None or self.injected is None:
            return clouds
        return [replace(cloud, images=ImageFeatures(patch, table))
                for cloud, patch in zip(clouds, self.injected.split(self.counts), strict=True)]


@dataclass(frozen=True)
class BatchSettings:
    """How batches are drawn.

    size: clouds of a batch, of each process. seed: of all draws. offset: by which voxels move at most, metres.
    voxel_size: metres. kd_points: visible points with a target in each cloud, at most. patches: of an image of the
    teacher; 0 without one. box: see `crop`; empty for all points. view_dropout: probability that a student with
    injection does not get a view; None without injection. The points of views that it does not get have the targets.
    """

    size: int
    seed: int
    offset: float
    voxel_size: float
    kd_points: int
    patches: int
    box: tuple[float, ...] = ()
    augmentation: Augmentation = Augmentation()
    view_dropout: float | None = None


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
            torch.cat([sample.patch for sample in samples]),
        )
        return self._with_table(batch, frames, samples)

    def _sample(self, frame: PreparedFrame, generator: np.random.Generator) -> Sample:
        sample = correspondences(frame, self.settings.patches, generator, self.settings.view_dropout)
        if self.settings.box:
            sample = crop(sample, self.settings.box)
        sample = augment(sample, self.settings.augmentation, generator)
        sample = keep(sample, in_grid(sample.points.xyz, self.settings.voxel_size))
        chosen = torch.from_numpy(generator.permutation(len(sample.visible))[: self.settings.kd_points])
        return sample._replace(visible=sample.visible[chosen], patch=sample.patch[chosen])

    def _with_table(self, batch: Batch, frames: Sequence[PreparedFrame], samples: Sequence[Sample]) -> Batch:
        if not self.settings.patches:
            return batch
        injects = self.settings.view_dropout is not None
        if frames[0].maps is not None and not injects:  # the rows that are in use are few
            table = torch.cat([frame.maps.flatten(0, 1)[sample.patch]
                               for frame, sample in zip(frames, samples, strict=True)])
            return batch._replace(table=table, patch=torch.arange(len(table)))
        if frames[0].maps is not None:
            batch = batch._replace(table=torch.cat([frame.maps.flatten(0, 1) for frame in frames]))
        else:
            batch = batch._replace(images=torch.cat([frame.images for frame in frames]))
        starts = np.cumsum([0, *(len(frame.patches) * self.settings.patches for frame in frames[:-1])]).tolist()
        if injects:
            rows = [sample.points.images.patch for sample in samples]
            batch = batch._replace(injected=torch.cat([torch.where(patch < 0, -1, patch + start)
                                                       for patch, start in zip(rows, starts, strict=True)]))
        return batch._replace(patch=torch.cat([sample.patch + start
                                               for sample, start in zip(samples, starts, strict=True)]))


def correspondences(frame: PreparedFrame, patches: int, generator: np.random.Generator,
                    view_dropout: float | None = None) -> Sample:
    """Find the visible points of a frame and the rows of the teacher's features that belong to them.

    If several cameras see a point, one of them is drawn at random (DITR, arXiv 2503.18944, section 3.1). patches: of an
    image. view_dropout: see `BatchSettings`. With one, the points also get the rows of image features for an injection,
    and only those that get none count as visible.
    """
    labels = torch.full((len(frame.points),), UNLABELLED) if frame.labels is None else frame.labels.long()
    seen, points = frame.patches.numpy() >= 0, frame.points
    if view_dropout is not None:
        injected = _drawn_rows(frame, seen & (generator.random((len(seen), 1)) >= view_dropout), patches, generator)
        points = replace(points, images=ImageFeatures(injected, torch.empty(0, 0)))
        seen &= injected.numpy() < 0
    row = _drawn_rows(frame, seen, patches, generator)
    visible = torch.nonzero(row >= 0)[:, 0]
    return Sample(points, labels, visible, row[visible])


def _drawn_rows(frame: PreparedFrame, seen: np.ndarray, patches: int, generator: np.random.Generator) -> Tensor:
    """Draw a camera for each point and return the row (N,) int64 of its patch, -1 if none sees it.

    seen: (views, N) bool, the cameras that may be drawn.
    """
    if not len(seen):
        return torch.full((len(frame.points),), -1)
    view = torch.from_numpy(np.where(seen, generator.random(seen.shape), -1).argmax(0))
    row = frame.patches[view, torch.arange(len(view))].long() + view * patches
    return torch.where(torch.from_numpy(seen.any(0)), row, -1)
