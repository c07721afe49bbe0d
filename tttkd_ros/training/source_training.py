"""Training on a labelled, simulated source domain and a frozen teacher's features: the student and the image head.

The student is trained jointly, as in TTT-KD, or distilled first, as in MuDDoS (arXiv 2511.17455). The image head is a
linear classifier of the teacher's features: the 2D class branch of xMUDA's and MM-TTA's test-time variants.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tttkd_ros.adaptation.ttt_kd import distillation_loss
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.simulation.seeds import training_seeds
from tttkd_ros.teacher.foundation_model import load_teacher, nearest_input_size
from tttkd_ros.teacher.image_head import ImageHead, save_image_head
from tttkd_ros.training.examples import INPUT_SIZE, Batch, Batches, labelled_features, student_examples
from tttkd_ros.training.loop import print_digest, train

if TYPE_CHECKING:
    from tttkd_ros.segmenter.student import Student

WorldName = Literal["a2d2", "kitti", "nuscenes"]
FeatureName = Literal["intensity", "normal", "position"]  # what the simulator delivers, or can be computed
CALIBRATION_BATCHES = 20


def train_student(
    out: Path = Path("models/student/student.safetensors"), *, world: WorldName = "a2d2",
    distil_first: tuple[WorldName, ...] = (), teacher: Path = Path("models/teacher"), drives: int = 100,
    sweeps_per_drive: int = 10, epochs: int = 8, batch: int = 4, learning_rate: float = 5e-3,
    distillation: float = 1.0, kd_points: int = 2048, voxel_size: float = 0.1, backbone: str = "scn",
    options: tuple[str, ...] = (), features: tuple[FeatureName, ...] = (), seed: int = 0, threads: int = 1,
) -> None:
    """Train a student jointly on a simulated domain: cross-entropy with its labels plus the distillation of the
    teacher's features.

    Args:
        out: checkpoint to write.
        world: the source domain.
        distil_first: train in two stages, as MuDDoS does. The first half of the steps distils the teacher's features on
            sweeps of these worlds, without their labels. The second half trains the class head on the source's labels,
            and the backbone is frozen.
        teacher: folder or name of the frozen 2D foundation model.
        drives: simulated drives of each world to take sweeps from.
        sweeps_per_drive: sweeps of each drive, one and a half seconds apart.
        epochs: passes over the source's sweeps (AdamW, one cycle).
        batch: sweeps per step.
        learning_rate: peak of the cycle.
        distillation: weight of L_2D; 0 trains on labels alone (Source-Only). It has no effect with distil_first.
        kd_points: visible points for L_2D in each sweep.
        voxel_size: metres.
        backbone: the 3D network, scn or another one that `tttkd models` lists.
        options: of the backbone, name=value each, such as channels=16 levels=5 or widths=[16,32]. Those left out have
            their defaults.
        features: of each point, that the backbone takes. Normals are estimated. By default only the geometry counts.
        seed: of weights, batches and drives.
        threads: CPU threads.
    """
    # These import spconv, which takes seconds that no other command of `tttkd` should wait for.
    from tttkd_ros.segmenter.backbones import parse_options
    from tttkd_ros.segmenter.checkpoint import SIMULATION, save_student
    from tttkd_ros.segmenter.student import Student, StudentConfig

    if len(set(distil_first)) < len(distil_first):
        raise ValueError(f"distil_first is {distil_first}: expected each world once")
    seeds = training_seeds("student", seed, drives)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    input_size = nearest_input_size(teacher, INPUT_SIZE)
    foundation = load_teacher(teacher, input_size=input_size, engine="eager")
    config = StudentConfig(
        voxel_size=voxel_size, backbone=backbone, options=parse_options(options), inputs=dict.fromkeys(features, 1.0),
        teacher_dim=foundation.dim, teacher_input=input_size, teacher_name=foundation.name,
    )
    examples = {name: student_examples(name, foundation, seeds, sweeps_per_drive, kd_points, features)
                for name in dict.fromkeys((world, *distil_first))}
    distilled = [example for name in distil_first or (world,) for example in examples[name]]
    student = Student(config).train()
    student.teacher_mean.copy_(torch.cat([e.targets for e in distilled]).float().mean(0))
    weights = class_weights(torch.cat([e.labels for e in examples[world]]), len(config.class_set))
    coarsest = student.coarsest_cell
    labelled = Batches(examples[world], batch, seed, coarsest)
    unlabelled = Batches(distilled, batch, seed, coarsest)
    student.backbone.calibrate(student.prepare(drawn.clouds, drawn.offsets)
                               for drawn in map(unlabelled.draw, range(CALIBRATION_BATCHES)))

    def distil(step: int) -> Tensor:
        drawn = unlabelled.draw(step)
        return distil_batch(student, drawn, student(drawn.clouds, drawn.offsets))

    def classify(step: int) -> Tensor:
        drawn = labelled.draw(step)
        with torch.no_grad():
            features = student(drawn.clouds, drawn.offsets)
        return cross_entropy(student.logits(features), drawn.labels, weights, ignore_index=UNLABELLED)

    def learn_jointly(step: int) -> Tensor:
        drawn = labelled.draw(step)
        features = student(drawn.clouds, drawn.offsets)
        loss = cross_entropy(student.logits(features), drawn.labels, weights, ignore_index=UNLABELLED)
        return loss + distillation * distil_batch(student, drawn, features) if distillation else loss

    settings = dict(
        world=world, drives=drives, sweeps_per_drive=sweeps_per_drive, epochs=epochs, batch=batch,
        learning_rate=learning_rate, distillation=distillation, kd_points=kd_points, seed=seed,
    ) | ({"distil_first": " ".join(distil_first)} if distil_first else {})
    out.parent.mkdir(parents=True, exist_ok=True)
    steps = epochs * labelled.per_epoch
    states = [out.with_suffix(suffix) for suffix in (".training.pt", ".classifying.pt")]
    # The default is left out, so that a training which was interrupted before there were others can continue.
    network = {"backbone": backbone if backbone != "scn" else "", "options": " ".join(options),
               "features": " ".join(features)}
    common = dict(
        learning_rate=learning_rate, max_norm=10.0,
        cycle={"div_factor": 10, "final_div_factor": 1000},  # as in the paper
        settings=settings | {"voxel_size": voxel_size, "teacher": teacher}
        | {name: value for name, value in network.items() if value},
    )
    if distil_first:
        train({"student": student}, distil, steps // 2, title="distillation", resume=states[0], **common)
        student.backbone.requires_grad_(False).eval()  # BatchNorm keeps the statistics of all worlds
        head = {"class head": student.class_head}
        train(head, classify, steps - steps // 2, title="class head", resume=states[1], **common)
    else:
        train({"student": student}, learn_jointly, steps, title="student", resume=states[0], **common)
    made = {"command": "tttkd train student", "data": SIMULATION}
    save_student(student.eval(), out, made | {name: str(value) for name, value in settings.items()})
    for state in states:
        state.unlink(missing_ok=True)
    print_digest(out)


def distil_batch(student: Student, batch: Batch, features: Tensor) -> Tensor:
    """Return L_2D of the visible points of a batch. features: (sum N, channels), the backbone's of all points."""
    predicted = student.predict_teacher_features(features[batch.visible])
    return distillation_loss(predicted, batch.targets - student.teacher_mean)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """Return ENet's logarithmic weights (classes,), mean 1, of labels (N,) int64, some of which are `UNLABELLED`."""
    counts = torch.bincount(labels[labels != UNLABELLED], minlength=classes)
    weights = 1 / torch.log(1.1 + counts / counts.sum())
    return weights / weights.mean()


def train_image_head(
    out: Path = Path("models/image_head/image_head.safetensors"), *,
    world: WorldName = "a2d2", teacher: Path = Path("models/teacher"), drives: int = 60,
    images_per_drive: int = 5, points: int = 512, steps: int = 1000, batch: int = 4096, learning_rate: float = 1e-2,
    seed: int = 0, threads: int = 1,
) -> None:
    """Train a linear classifier of the frozen teacher's features at the labelled points of a simulated domain.

    Args:
        out: file to write.
        world: the source domain.
        teacher: folder or name of the frozen 2D foundation model.
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
    foundation = load_teacher(teacher, input_size=nearest_input_size(teacher, INPUT_SIZE), engine="eager")
    examples = [(each.half(), label) for each, label in
                labelled_features(world, foundation, seeds, images_per_drive, points)]
    features, labels = (torch.cat(parts) for parts in zip(*examples, strict=True))
    # Its statistics are those of the whole source.
    head = ImageHead(OUTDOOR, foundation.dim, foundation.name).eval()
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
