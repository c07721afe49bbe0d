"""The 2D class branch of xMUDA's and MM-TTA's test-time variants: a linear classifier of the teacher's features."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.teacher.dinov2 import load_teacher
from tttkd_ros.teacher.image_head import ImageHead, save_image_head
from tttkd_ros.training.joint_training import INPUT_SIZE, labelled_targets
from tttkd_ros.training.loop import print_digest, train

FIRST_SEED = 3_000_000  # of the head's drives; no other command starts here


def train_image_head(
    out: Path = Path("models/image_head/image_head.safetensors"),
    *,
    world: Literal["a2d2", "kitti", "nuscenes"] = "a2d2",
    teacher: Path = Path("models/teacher"),
    drives: int = 60,
    images_per_drive: int = 5,
    points: int = 512,
    steps: int = 1000,
    batch: int = 4096,
    learning_rate: float = 1e-2,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Train a linear classifier of the frozen teacher's features at the labelled points of a simulated domain.

    Args:
        out: file to write.
        world: the source domain.
        teacher: directory of the frozen 2D foundation model.
        drives: simulated drives to take images from.
        images_per_drive: images of each drive, three seconds apart.
        points: labelled points that the camera sees, in each image.
        steps: gradient steps (AdamW, one cycle).
        batch: points per step.
        learning_rate: peak of the cycle.
        seed: of weights, batches and drives.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    dinov2 = load_teacher(teacher, input_size=INPUT_SIZE, engine="eager")
    examples = []
    for frame, targets, generator in labelled_targets(
        world, dinov2, drives, images_per_drive, FIRST_SEED + seed * drives, seconds=3.0, title="images"
    ):
        label = torch.from_numpy(frame.labels)[targets.index].long()
        labelled = torch.nonzero(label != UNLABELLED)[:, 0]
        chosen = labelled[torch.randperm(len(labelled), generator=generator)[:points]]
        examples.append((targets.features[chosen].half(), label[chosen]))
    features, labels = (torch.cat(parts) for parts in zip(*examples, strict=True))
    head = ImageHead(OUTDOOR.name, dinov2.dim, dinov2.name).eval()  # its statistics are those of the whole source
    head.norm.running_mean.copy_(features.float().mean(0))
    head.norm.running_var.copy_(features.float().var(0))
    frequency = torch.bincount(labels, minlength=len(OUTDOOR)) / len(labels)
    weights = 1 / torch.log(1.1 + frequency)  # ENet's logarithmic class weights, as for the student

    def loss(step: int) -> Tensor:
        chosen = torch.from_numpy(np.random.default_rng((seed, step)).integers(len(labels), size=batch))
        return cross_entropy(head(features[chosen].float()), labels[chosen], weights)

    train({"head": head}, loss, steps, learning_rate, title="image head", cycle={"pct_start": max(0.1, 2 / steps)})
    settings = dict(
        world=world, drives=drives, images_per_drive=images_per_drive, points=points, steps=steps, batch=batch,
        learning_rate=learning_rate, seed=seed,
    )
    made = {"command": "tttkd train image-head", "data": "simulation"}
    save_image_head(head, out, made | {name: str(value) for name, value in settings.items()})
    print_digest(out)
