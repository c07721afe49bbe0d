"""Training on a labelled, simulated source domain and a frozen teacher's features: the student and the image head.

The student is trained jointly, as in TTT-KD. The image head is a linear classifier of the teacher's features: the 2D
class branch of xMUDA's and MM-TTA's test-time variants.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.adaptation.targets import Targets, Teacher, teacher_targets
from tttkd_ros.adaptation.ttt_kd import distillation_loss
from tttkd_ros.classes import CLASS_SETS, OUTDOOR, UNLABELLED
from tttkd_ros.frame import Frame
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.simulation.seeds import training_seeds
from tttkd_ros.teacher.dinov2 import load_teacher
from tttkd_ros.teacher.image_head import ImageHead, save_image_head
from tttkd_ros.training.loop import print_digest, train

INPUT_SIZE = (140, 392)  # (height, width) of the teacher's images in pixels


class Example(NamedTuple):
    """One labelled sweep with its distillation targets."""

    points: Tensor  # (N, 3) float32, metres, LiDAR frame
    labels: Tensor  # (N,) int64
    visible: Tensor  # (M,) int64, the points that the camera sees
    targets: Tensor  # (M, D) float16, the teacher's features at these


def train_student(
    out: Path = Path("models/student/student.safetensors"), *, world: Literal["a2d2", "kitti", "nuscenes"] = "a2d2",
    teacher: Path = Path("models/teacher"), drives: int = 100, sweeps_per_drive: int = 10, epochs: int = 8,
    batch: int = 4, learning_rate: float = 5e-3, distillation: float = 1.0, kd_points: int = 2048,
    voxel_size: float = 0.1, seed: int = 0, threads: int = 1,
) -> None:
    """Train a student jointly on a simulated domain: cross-entropy with its labels plus the distillation of the
    teacher's features.

    Args:
        out: checkpoint to write.
        world: the source domain.
        teacher: directory of the frozen 2D foundation model.
        drives: simulated drives to take sweeps from.
        sweeps_per_drive: labelled sweeps of each drive, one and a half seconds apart.
        epochs: passes over the sweeps (AdamW, one cycle).
        batch: sweeps per step.
        learning_rate: peak of the cycle.
        distillation: weight of L_2D; 0 trains on labels alone (Source-Only).
        kd_points: visible points for L_2D in each sweep.
        voxel_size: metres.
        seed: of weights, batches and drives.
        threads: CPU threads.
    """
    # These import spconv, which takes seconds that no other command of `tttkd` should wait for.
    from tttkd_ros.segmenter.checkpoint import SIMULATION, save_student
    from tttkd_ros.segmenter.student import Student, StudentConfig

    seeds = training_seeds("student", seed, drives)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    dinov2 = load_teacher(teacher, input_size=INPUT_SIZE, engine="eager")
    examples = []
    for frame, targets, generator in labelled_targets(
        world, dinov2, seeds, sweeps_per_drive, seconds=1.5, title="sweeps"
    ):
        chosen = torch.randperm(len(targets.index), generator=generator)[:kd_points]
        points, labels = torch.from_numpy(frame.upright), torch.from_numpy(frame.labels).long()
        examples.append(Example(points, labels, targets.index[chosen], targets.features[chosen].half()))
    student = Student(StudentConfig(
        voxel_size=voxel_size, teacher_dim=dinov2.dim, teacher_input=INPUT_SIZE, teacher_name=dinov2.name
    )).train()
    student.teacher_mean.copy_(torch.cat([e.targets for e in examples]).float().mean(0))
    classes = len(CLASS_SETS[student.config.class_set])
    counts = torch.bincount(torch.cat([e.labels[e.labels != UNLABELLED] for e in examples]), minlength=classes)
    weights = 1 / torch.log(1.1 + counts / counts.sum())  # ENet's logarithmic class weights
    weights /= weights.mean()
    per_epoch = len(examples) // batch
    coarsest = voxel_size * 2 ** (student.config.levels - 1)

    def loss(step: int) -> Tensor:
        order = np.random.default_rng((seed, step // per_epoch)).permutation(len(examples))
        generator = np.random.default_rng((seed, 1, step))
        chosen = [examples[k] for k in order[(step % per_epoch) * batch : (step % per_epoch + 1) * batch]]
        clouds = [augment(e.points, generator) for e in chosen]
        features = student(clouds, torch.from_numpy(generator.uniform(0, coarsest, (batch, 3))).float())
        labels = torch.cat([e.labels for e in chosen])
        total = cross_entropy(student.logits(features), labels, weights, ignore_index=UNLABELLED)
        if distillation:
            starts = np.cumsum([0, *(len(e.points) for e in chosen[:-1])])
            visible = torch.cat([e.visible + int(start) for e, start in zip(chosen, starts, strict=True)])
            targets = torch.cat([e.targets for e in chosen]).float() - student.teacher_mean
            predicted = student.predict_teacher_features(features[visible])
            total = total + distillation * distillation_loss(predicted, targets)
        return total

    settings = dict(
        world=world, drives=drives, sweeps_per_drive=sweeps_per_drive, epochs=epochs, batch=batch,
        learning_rate=learning_rate, distillation=distillation, kd_points=kd_points, seed=seed,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    resume = out.with_suffix(".training.pt")
    train(
        {"student": student}, loss, epochs * per_epoch, learning_rate, title="student", max_norm=10.0,
        cycle={"div_factor": 10, "final_div_factor": 1000},  # as in the paper
        resume=resume, settings=settings | {"voxel_size": voxel_size, "teacher": teacher},
    )
    made = {"command": "tttkd train student", "data": SIMULATION}
    save_student(student.eval(), out, made | {name: str(value) for name, value in settings.items()})
    resume.unlink()
    print_digest(out)


def train_image_head(
    out: Path = Path("models/image_head/image_head.safetensors"), *,
    world: Literal["a2d2", "kitti", "nuscenes"] = "a2d2", teacher: Path = Path("models/teacher"), drives: int = 60,
    images_per_drive: int = 5, points: int = 512, steps: int = 1000, batch: int = 4096, learning_rate: float = 1e-2,
    seed: int = 0, threads: int = 1,
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
    seeds = training_seeds("image head", seed, drives)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    dinov2 = load_teacher(teacher, input_size=INPUT_SIZE, engine="eager")
    examples = []
    for frame, targets, generator in labelled_targets(
        world, dinov2, seeds, images_per_drive, seconds=3.0, title="images"
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


def augment(points: Tensor, generator: np.random.Generator) -> Tensor:
    """Transform points (N, 3) as xMUDA does: by a small random linear map, a mirrored y axis, and any rotation about
    the vertical. xMUDA's translation is the offset of the voxels.
    """
    matrix = np.eye(3) + generator.normal(0, 0.1, (3, 3))
    matrix[1] *= generator.choice((-1, 1))
    angle = generator.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return points @ torch.from_numpy(rotation @ matrix).float().T
