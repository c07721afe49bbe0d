"""The simulated sweeps that a training on a source domain draws its batches from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from tttkd_ros.adaptation.targets import Targets, Teacher, teacher_targets
from tttkd_ros.classes import UNLABELLED
from tttkd_ros.features import select
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.points import Points
from tttkd_ros.simulation.drive import DriveProfile, frames

INPUT_SIZE = (140, 392)  # (height, width) of the teacher's images in pixels, or what is nearest to it


class Example(NamedTuple):
    """One labelled sweep with its distillation targets."""

    points: Points  # N, z up, with the features that the student takes
    labels: Tensor  # (N,) int64
    visible: Tensor  # (M,) int64, the points that the camera sees
    targets: Tensor  # (M, D) float16, the teacher's features at these


class Batch(NamedTuple):
    """Augmented sweeps. The other tensors join those of its examples."""

    clouds: list[Points]  # N each
    offsets: Tensor  # (clouds, 3), metres, see `voxelise`
    labels: Tensor  # (sum N,) int64
    visible: Tensor  # (sum M,) int64, rows of `labels`
    targets: Tensor  # (sum M, D) float32


@dataclass(frozen=True, eq=False)
class Batches:
    """Draws batches of `size` examples. One epoch has each example once. offset: maximum, metres.

    A batch depends on the seed and the step alone, so that a resumed training equals an uninterrupted one.
    """

    examples: Sequence[Example]
    size: int
    seed: int
    offset: float

    @property
    def per_epoch(self) -> int:
        return len(self.examples) // self.size

    def draw(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        order = np.random.default_rng((self.seed, step // self.per_epoch)).permutation(len(self.examples))
        generator = np.random.default_rng((self.seed, 1, step))
        first = step % self.per_epoch * self.size
        chosen = [self.examples[k] for k in order[first : first + self.size]]
        clouds = [augment(e.points, generator) for e in chosen]
        offsets = torch.from_numpy(generator.uniform(0, self.offset, (self.size, 3))).float()
        starts = np.cumsum([0, *(len(e.points) for e in chosen[:-1])])
        visible = torch.cat([e.visible + int(start) for e, start in zip(chosen, starts, strict=True)])
        return Batch(clouds, offsets, torch.cat([e.labels for e in chosen]), visible,
                     torch.cat([e.targets for e in chosen]).float())


def student_examples(
    world: str, teacher: Teacher, seeds: range, sweeps_per_drive: int, max_targets: int, features: Sequence[str] = ()
) -> list[Example]:
    """Simulate sweeps, 1.5 s apart, of one drive per seed. Each has at most `max_targets` targets, drawn at random.

    features: of the points, by the names of `tttkd_ros.features`. Raises ValueError if the simulator has none such.
    """
    examples = []
    for frame, targets, generator in labelled_targets(
        world, teacher, seeds, sweeps_per_drive, seconds=1.5, title=f"{world} sweeps"
    ):
        chosen = torch.randperm(len(targets.index), generator=generator)[:max_targets]
        values = select(tuple(features), frame.upright, frame.upright_features).items()
        points = Points(torch.from_numpy(frame.upright), {name: torch.from_numpy(each) for name, each in values})
        labels = torch.from_numpy(frame.labels).long()
        examples.append(Example(points, labels, targets.index[chosen], targets.features[chosen].half()))
    return examples


def labelled_targets(
    world: str, teacher: Teacher, seeds: range, frames_per_drive: int, *, seconds: float, title: str
) -> Iterator[tuple[Frame, Targets, torch.Generator]]:
    """Yield each labelled frame of one drive per seed, `seconds` apart, with its targets and the generator that drew
    them."""
    generator = torch.Generator().manual_seed(seeds.start)
    with Progress() as bar:
        task = bar.add_task(title, total=len(seeds) * frames_per_drive)
        for seed in seeds:
            for frame in frames(world, seed, frames_per_drive, DriveProfile(period=seconds)):
                yield frame, teacher_targets(frame, teacher, generator), generator
                bar.advance(task)


def labelled_features(
    world: str, teacher: Teacher, seeds: range, images_per_drive: int, points: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each image of one drive per seed, 3 s apart, the teacher's features (M, D) at visible, labelled points
    and their labels (M,) int64. M is at most `points`, drawn at random."""
    for frame, targets, generator in labelled_targets(
        world, teacher, seeds, images_per_drive, seconds=3.0, title=f"{world} images"
    ):
        label = torch.from_numpy(frame.labels)[targets.index].long()
        labelled = torch.nonzero(label != UNLABELLED)[:, 0]
        chosen = labelled[torch.randperm(len(labelled), generator=generator)[:points]]
        yield targets.features[chosen], label[chosen]


def augment(points: Points, generator: np.random.Generator) -> Points:
    """Transform points as xMUDA does: by a small random linear map, a mirrored y axis, and any rotation about the
    vertical. Directions among the features follow. xMUDA's translation is the offset of the voxels.
    """
    matrix = np.eye(3) + generator.normal(0, 0.1, (3, 3))
    matrix[1] *= generator.choice((-1, 1))
    angle = generator.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return points.transformed(torch.from_numpy(rotation @ matrix).float().T)
