"""Augmentations of a labelled cloud. All of them keep the correspondences with the teacher's patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.segmenter.points import Points


class Sample(NamedTuple):
    """A labelled cloud, and the M of its points that a camera sees."""

    points: Points  # N, z up
    labels: Tensor  # (N,) int64
    visible: Tensor  # (M,) int64, rows of `points`
    patch: Tensor  # (M,) int64, the row of the teacher's features of each of them


@dataclass(frozen=True)
class Augmentation:
    """How clouds are augmented in training. The default is xMUDA's. Raises ValueError for bad values.

    Besides, the voxels of every cloud are moved at random, because a translation of the points would change nothing.

    Attributes:
        linear_noise: standard deviation of the random linear map that is added to the identity.
        rotation: probability of a rotation by any angle about the vertical.
        flip_x: probability of mirrored x.
        flip_y: probability of mirrored y.
        scale: smallest and largest factor.
        jitter: standard deviation of the noise of each coordinate in metres, cut off at four of them.
        drop: share of the points that are left out at random.
        mix3d: probability that two clouds of a batch become one (Mix3D).
    """

    linear_noise: float = 0.1
    rotation: float = 1.0
    flip_x: float = 0.0
    flip_y: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    jitter: float = 0.0
    drop: float = 0.0
    mix3d: float = 0.0

    def __post_init__(self):
        for name in ("rotation", "flip_x", "flip_y", "mix3d"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name} is {getattr(self, name)}, expected a probability from 0 to 1")
        for name in ("linear_noise", "jitter", "drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"augmentation.{name} is {getattr(self, name)}, expected a number from 0 to below 1")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1] < float("inf"):
            raise ValueError(f"augmentation.scale is {self.scale}, expected a smallest and a largest factor above 0")


def augment(sample: Sample, options: Augmentation, generator: np.random.Generator) -> Sample:
    """Apply all augmentations of one cloud."""
    if options.drop:
        sample = drop(sample, options.drop, generator)
    sample = sample._replace(points=sample.points.transformed(draw_transform(options, generator)))
    return jitter(sample, options.jitter, generator) if options.jitter else sample


def draw_transform(options: Augmentation, generator: np.random.Generator) -> Tensor:
    """Draw a matrix (3, 3) that rows of points are multiplied by: noise, mirrors, scale and rotation."""
    matrix = np.eye(3) + generator.normal(0, 1, (3, 3)) * options.linear_noise
    mirrored = generator.random(2) < (options.flip_x, options.flip_y)
    matrix[:2][mirrored] *= -1
    matrix *= generator.uniform(*options.scale)
    angle = generator.uniform(0, 2 * np.pi) * (generator.random() < options.rotation)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return torch.from_numpy(rotation @ matrix).float().T


def jitter(sample: Sample, deviation: float, generator: np.random.Generator) -> Sample:
    """Move each point by normal noise, metres, cut off at four deviations."""
    noise = generator.normal(0, deviation, sample.points.xyz.shape).clip(-4 * deviation, 4 * deviation)
    return sample._replace(points=replace(sample.points, xyz=sample.points.xyz + torch.from_numpy(noise).float()))


def drop(sample: Sample, share: float, generator: np.random.Generator) -> Sample:
    """Leave out a share of the points at random."""
    return keep(sample, torch.from_numpy(generator.random(len(sample.points)) >= share))


def crop(sample: Sample, box: Sequence[float]) -> Sample:
    """Keep the points from x, y, z to x, y, z, six numbers in metres."""
    lower, upper = torch.tensor(box[:3]), torch.tensor(box[3:])
    return keep(sample, ((sample.points.xyz >= lower) & (sample.points.xyz <= upper)).all(1))


def keep(sample: Sample, chosen: Tensor) -> Sample:
    """Keep some points. chosen: (N,) bool."""
    if chosen.all():
        return sample
    seen = chosen[sample.visible]
    row = chosen.cumsum(0) - 1
    return Sample(sample.points[chosen], sample.labels[chosen], row[sample.visible[seen]], sample.patch[seen])


def mixed(counts: Sequence[int], probability: float, generator: np.random.Generator) -> list[int]:
    """Merge pairs of neighbouring clouds of a batch, each with a probability (Mix3D, arXiv 2110.02210).

    counts: points of each cloud. Returns those of the merged clouds. The order of the points stays, and so do labels
    and correspondences.
    """
    merged = []
    for first in range(0, len(counts), 2):
        pair = list(counts[first : first + 2])
        merged += [sum(pair)] if len(pair) == 2 and generator.random() < probability else pair
    return merged
