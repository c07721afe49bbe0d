"""The 2D class branch of xMUDA's and MM-TTA's test-time variants: a linear classifier of the teacher's features."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.adaptation.targets import teacher_targets
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.teacher import Teacher, load_teacher
from tttkd_ros.teacher.image_head import ImageHead, save_image_head
from tttkd_ros.training.joint_training import INPUT_SIZE
from tttkd_ros.training.loop import run

FIRST_SEED = 3_000_000  # drives of the head's images; no other command starts here


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
        images_per_drive: images of each, three seconds apart.
        points: labelled points that the camera sees, kept of each image.
        steps: gradient steps (AdamW, one cycle).
        batch: points a step.
        learning_rate: peak of the cycle.
        seed: of weights, batches and drives.
        threads: CPU threads.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    eyes = load_teacher(teacher, input_size=INPUT_SIZE, engine="eager")
    features, labels = _examples(world, eyes, drives, images_per_drive, FIRST_SEED + seed * drives, points)
    head = ImageHead(OUTDOOR.name, eyes.dim, eyes.name).eval()  # its statistics are the source's, all of it
    head.norm.running_mean.copy_(features.float().mean(0))
    head.norm.running_var.copy_(features.float().var(0))
    frequency = torch.bincount(labels, minlength=len(OUTDOOR)) / len(labels)
    weights = 1 / torch.log(1.1 + frequency)  # ENet's logarithmic class weights, as for the student
    optimiser = torch.optim.AdamW(head.parameters(), learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps, pct_start=max(0.1, 2 / steps)
    )

    def step(i: int) -> float:
        chosen = torch.from_numpy(np.random.default_rng((seed, i)).integers(len(labels), size=batch))
        loss = cross_entropy(head(features[chosen].float()), labels[chosen], weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        return loss.item()

    run(steps, step, {"head": head, "optimiser": optimiser, "schedule": schedule}, title="image head")
    settings = dict(
        world=world, drives=drives, images_per_drive=images_per_drive, points=points, steps=steps, batch=batch,
        learning_rate=learning_rate, seed=seed,
    )
    save_image_head(
        head,
        out,
        {"command": "tttkd train image-head", "data": "simulation", **{k: str(v) for k, v in settings.items()}},
    )
    print(f"{out} sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


def _examples(world: str, teacher: Teacher, drives: int, each: int, seed: int, budget: int) -> tuple[Tensor, Tensor]:
    """Features (K, D) float16 and labels (K,) int64 of labelled points that the camera sees."""
    features, labels = [], []
    random = torch.Generator().manual_seed(seed)
    with Progress() as bar:
        task = bar.add_task("images", total=drives * each)
        for i in range(drives):
            for frame in frames(world, seed + i, each, DriveProfile(period=3.0)):
                targets = teacher_targets(frame, teacher, random)
                label = torch.from_numpy(frame.labels)[targets.index].long()
                known = torch.nonzero(label != UNLABELLED)[:, 0]
                kept = known[torch.randperm(len(known), generator=random)[:budget]]
                features.append(targets.features[kept].half())
                labels.append(label[kept])
                bar.advance(task)
    return torch.cat(features), torch.cat(labels)
