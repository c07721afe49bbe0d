"""Joint training of the student (TTT-KD): class labels and a frozen teacher's features on a labelled source domain."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tttkd_ros.adaptation.targets import teacher_targets
from tttkd_ros.adaptation.ttt_kd import distillation_loss
from tttkd_ros.classes import CLASS_SETS, UNLABELLED
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.teacher.dinov2 import Teacher, load_teacher
from tttkd_ros.training.loop import run

FIRST_SEED = 2_000_000  # drives of the student's sweeps; no other command starts here
INPUT_SIZE = (140, 392)


@dataclass(frozen=True, eq=False)
class Example:
    """One labelled sweep: points (N, 3), labels (N,) int64, and for M visible points their index and teacher feature
    (M, D) float16.
    """

    points: Tensor
    labels: Tensor
    visible: Tensor
    targets: Tensor


def train_student(
    out: Path = Path("models/student/student.safetensors"),
    *,
    world: Literal["a2d2", "kitti", "nuscenes"] = "a2d2",
    teacher: Path = Path("models/teacher"),
    drives: int = 100,
    sweeps_per_drive: int = 10,
    epochs: int = 8,
    batch: int = 4,
    learning_rate: float = 5e-3,
    distillation: float = 1.0,
    kd_points: int = 2048,
    voxel_size: float = 0.1,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Train a student jointly on a simulated domain: cross-entropy with its labels plus the distillation of the
    teacher's features.

    Args:
        out: checkpoint to write.
        world: the source domain.
        teacher: directory of the frozen 2D foundation model.
        drives: simulated drives to take sweeps from.
        sweeps_per_drive: labelled sweeps of each, one and a half seconds apart.
        epochs: passes over the sweeps (AdamW, one cycle).
        batch: sweeps a step.
        learning_rate: peak of the cycle.
        distillation: weight of L_2D; 0 trains on labels alone (Source-Only).
        kd_points: visible points kept for L_2D in each sweep.
        voxel_size: metres.
        seed: of weights, batches and drives.
        threads: CPU threads.
    """
    # These bring spconv along, which takes seconds that no other command of `tttkd` should wait for.
    from tttkd_ros.segmenter.checkpoint import SIMULATION, save_student
    from tttkd_ros.segmenter.student import Student, StudentConfig

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    frozen = load_teacher(teacher, input_size=INPUT_SIZE, engine="eager")
    examples, mean = _examples(world, frozen, drives, sweeps_per_drive, FIRST_SEED + seed * drives, kd_points)
    student = Student(
        StudentConfig(voxel_size=voxel_size, teacher_dim=frozen.dim, teacher_input=INPUT_SIZE, teacher_name=frozen.name)
    ).train()
    student.teacher_mean.copy_(mean)
    classes = len(CLASS_SETS[student.config.class_set])
    counts = torch.bincount(torch.cat([e.labels[e.labels != UNLABELLED] for e in examples]), minlength=classes)
    weights = 1 / torch.log(1.1 + counts / counts.sum())  # ENet's logarithmic class weights
    weights /= weights.mean()
    per_epoch = len(examples) // batch
    optimiser = torch.optim.AdamW(student.parameters(), learning_rate, weight_decay=1e-4)
    # The paper's cycle: from a tenth of the peak, down to a thousandth of the start.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=epochs * per_epoch, div_factor=10, final_div_factor=1000
    )

    def step(i: int) -> float:
        order = np.random.default_rng((seed, i // per_epoch)).permutation(len(examples))
        rng = np.random.default_rng((seed, 1, i))
        chosen = [examples[k] for k in order[(i % per_epoch) * batch : (i % per_epoch + 1) * batch]]
        features = student([augment(e.points, rng) for e in chosen])
        loss = cross_entropy(
            student.logits(features), torch.cat([e.labels for e in chosen]), weights, ignore_index=UNLABELLED
        )
        if distillation:
            starts = np.cumsum([0, *(len(e.points) for e in chosen[:-1])])
            visible = torch.cat([e.visible + int(start) for e, start in zip(chosen, starts, strict=True)])
            targets = torch.cat([e.targets for e in chosen]).float() - student.teacher_mean
            loss = loss + distillation * distillation_loss(student.predict_teacher_features(features[visible]), targets)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        return loss.item()

    settings = dict(
        world=world,
        drives=drives,
        sweeps_per_drive=sweeps_per_drive,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        distillation=distillation,
        kd_points=kd_points,
        seed=seed,
    )
    settings = {name: str(value) for name, value in settings.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    resume = out.with_suffix(".training.pt")
    run(
        epochs * per_epoch,
        step,
        {"student": student, "optimiser": optimiser, "schedule": schedule},
        title="student",
        resume=resume,
        settings=settings | {"voxel_size": str(voxel_size), "teacher": str(teacher)},
    )
    save_student(
        student.eval(),
        out,
        {"command": "tttkd train student", "data": SIMULATION, **settings},
    )
    resume.unlink()
    print(f"{out} sha256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


def _examples(
    world: str, teacher: Teacher, drives: int, each: int, seed: int, budget: int
) -> tuple[list[Example], Tensor]:
    """Labelled sweeps of `drives` drives, and the mean of the teacher's features over their visible points (D,)."""
    examples = []
    rng = torch.Generator().manual_seed(seed)
    with Progress() as bar:
        task = bar.add_task("sweeps", total=drives * each)
        for i in range(drives):
            for frame in frames(world, seed + i, each, DriveProfile(period=1.5)):
                targets = teacher_targets(frame, teacher, rng)
                kept = torch.randperm(len(targets.index), generator=rng)[:budget]
                labels, points = torch.from_numpy(frame.labels).long(), torch.from_numpy(frame.upright)
                examples.append(Example(points, labels, targets.index[kept], targets.features[kept].half()))
                bar.advance(task)
    return examples, torch.cat([e.targets for e in examples]).float().mean(0)


def augment(points: Tensor, rng: np.random.Generator) -> Tensor:
    """xMUDA's augmentation of (N, 3) points: a small random linear map, a mirrored y axis, any turn about the
    vertical, a shift within a voxel.
    """
    matrix = np.eye(3) + rng.normal(0, 0.1, (3, 3))
    matrix[1] *= rng.choice((-1, 1))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return points @ torch.from_numpy(turn @ matrix).float().T + torch.from_numpy(rng.uniform(0, 1, 3)).float()
