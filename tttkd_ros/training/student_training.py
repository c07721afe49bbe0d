"""Training of a student on a labelled source domain and a frozen teacher's features: jointly, as in TTT-KD, or
distilled first, as in MuDDoS (arXiv 2511.17455)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.classes import load_class_set
from tttkd_ros.datasets.source import open_source
from tttkd_ros.digests import digest
from tttkd_ros.evaluation.metrics import class_iou, mean_iou
from tttkd_ros.files import require_writable
from tttkd_ros.segmenter.backbones import parse_options
from tttkd_ros.segmenter.checkpoint import SIMULATION, save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.teacher.foundation_model import FoundationModel, load_teacher, nearest_input_size
from tttkd_ros.teacher.timm_model import read_config
from tttkd_ros.training.batches import Batches, BatchSettings, correspondences
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.curves import Curves
from tttkd_ros.training.devices import launch
from tttkd_ros.training.loop import Optimisation, Resume, print_digest, train
from tttkd_ros.training.losses import class_weights
from tttkd_ros.training.objective import LossSettings, Objective, Stage
from tttkd_ros.training.preparation import FrameTeacher, PreparedPart, prepare
from tttkd_ros.training.prepared import FrameSettings, read_frame
from tttkd_ros.training.validation import validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CALIBRATION_BATCHES = 20
_MEAN_FRAMES = 1000  # that the teacher's mean feature is computed of, at most


def train_student(config: TrainingConfig) -> None:
    """Train a student and write its checkpoint.

    Raises:
        ValueError: the settings or the data do not fit together.
        OSError: a file cannot be written, or another process of the training has failed.
        FloatingPointError: the loss is no longer finite.
    """
    require_writable(config.out)
    if config.nodes == 1:
        StudentTraining(config).frames()  # here, so that errors of the data are this process's
    launch(config.processes, _run, config)


def _run(fabric: Fabric, config: TrainingConfig) -> None:
    StudentTraining(config).run(fabric)


@dataclass(frozen=True)
class Frames:
    """The prepared frames of a training. label_counts: (classes,), points of the labelled ones."""

    labelled: list[Path]
    validation: list[Path]
    distilled: list[Path]
    label_counts: np.ndarray


class StudentTraining:
    """One training. Its `frames` are prepared when they are first asked for, and found again later.

    Raises ValueError if the settings describe no student, or a teacher is missing.
    """

    def __init__(self, config: TrainingConfig):
        if not config.data:
            raise ValueError("no data to train on: name sources with --data")
        self.config, self.classes = config, load_class_set(config.class_set)
        self.teacher: FoundationModel | None = None
        if config.uses_teacher:
            size = nearest_input_size(config.teacher, config.teacher_input)
            self.teacher = load_teacher(config.teacher, input_size=size, engine="eager")
        self.student_config = StudentConfig(
            class_set=self.classes, voxel_size=config.voxel_size, backbone=config.backbone,
            options=parse_options(config.options), inputs=config.inputs,
            **(dict(teacher_dim=self.teacher.dim, teacher_input=self.teacher.input_size,
                    teacher_name=self.teacher.name) if self.teacher else dict(teacher_dim=0)),
        )

    @property
    def folder(self) -> Path:
        """Return the folder of the prepared frames."""
        return self.config.cache or self.config.out.with_suffix(".frames")

    def frames(self, *, quiet: bool = False) -> Frames:
        """Prepare all frames that are not there. Raises as `prepare`, or if labels are missing."""
        config = self.config
        plain = FrameSettings(len(self.classes), tuple(config.inputs))
        settings, teacher = plain, None
        if self.teacher is not None:
            settings = FrameSettings(len(self.classes), tuple(config.inputs), self.teacher.grid,
                                     self.teacher.input_size)
            if config.teacher_features == "cached":
                teacher = FrameTeacher(str(config.teacher), _digest(config.teacher), config.processes.device)

        def prepared(texts: Sequence[str], settings: FrameSettings, teacher: FrameTeacher | None, purpose: str):
            parts = [part for text in texts for part in self._open(text, purpose)]
            return prepare(parts, self.folder, settings, teacher, workers=config.workers, quiet=quiet)

        labelled = prepared(config.data, settings, teacher, "student")
        validation = prepared(config.validation, plain, None, "validation")
        distilled = prepared(config.distil_first, settings, teacher, "student") or labelled
        for part in (*labelled, *validation):
            if not part.label_counts[: len(self.classes)].any():
                raise ValueError(f"{part.name} has no labels of the classes {self.classes.name}: leave it out, or name "
                                 "it under --distil-first")
        counts = sum(part.label_counts for part in labelled)[: len(self.classes)]
        return Frames(*(_paths(parts) for parts in (labelled, validation, distilled)), counts)

    def run(self, fabric: Fabric) -> None:
        """Train in one of the processes."""
        config = self.config
        torch.set_num_threads(config.threads)
        if config.nodes > 1:  # otherwise they are prepared before
            if fabric.is_global_zero:
                self.frames()
            fabric.barrier()
        frames = self.frames(quiet=True)
        teacher = None if self.teacher is None else self._teacher_on(str(fabric.device))
        torch.manual_seed(config.seed)
        student = Student(self.student_config).train()
        labelled, distilled = (self._batches(each, student, fabric) for each in (frames.labelled, frames.distilled))
        if teacher is not None:
            student.teacher_mean.copy_(mean_feature(frames.distilled, teacher, config.seed))
        prepared = (student.prepare(batch.clouds(), list(batch.offsets))
                    for batch in map(distilled.__getitem__, range(CALIBRATION_BATCHES)))
        student.backbone.calibrate(prepared)
        weights = class_weights(torch.from_numpy(frames.label_counts)).float()
        self._train(fabric, student, labelled, distilled, frames.validation,
                    weights if config.class_weights == "enet" else None, teacher)
        if fabric.is_global_zero:
            self._save(student)

    def _train(self, fabric: Fabric, student: Student, labelled: Batches, distilled: Batches,
               validation: Sequence[Path], weights: Tensor | None, teacher: FoundationModel | None) -> None:
        config, losses = self.config, LossSettings(self.config.distillation, self.config.lovasz,
                                                   self.config.label_smoothing)
        steps = config.steps or config.epochs * labelled.per_epoch
        curves = Curves(steps, config.out.with_suffix(".tensorboard") if fabric.is_global_zero else None)
        stages: list[tuple[Stage, Batches, int]] = [("joint", labelled, steps)]
        if config.distil_first:
            stages = [("distil", distilled, steps // 2), ("classify", labelled, steps - steps // 2)]
        before = 0
        for stage, batches, count in stages:
            def after_step(done: int, values: dict[str, float], before: int = before, last: int = count) -> None:
                curves.add_losses(before + done, values)
                if done % (config.validate_every * labelled.per_epoch) and done != last:
                    return
                if validation:
                    matrix = validate(fabric, student, validation)
                    curves.add("mIoU/mean", before + done, mean_iou(matrix))
                    for name, iou in zip(self.classes.names, class_iou(matrix), strict=True):
                        curves.add(f"IoU/{name}", before + done, 100 * float(iou))
                if fabric.is_global_zero:
                    curves.draw(config.out.with_suffix(".png"))

            objective = Objective(student, stage, losses, weights, teacher)
            optimisation = Optimisation(
                count, config.learning_rate, config.block_learning_rate or None, config.weight_decay, config.clip,
                config.schedule, config.warm_up, config.div, config.final_div,
            )
            train(fabric, objective, batches, optimisation, title=f"student, {stage}", seed=config.seed,
                  resume=Resume(self._state(stage), config.settings(), config.save_every),
                  state={"student": student, "curves": curves}, workers=config.workers, after_step=after_step)
            before += count
        curves.close()

    def _save(self, student: Student) -> None:
        config = self.config
        texts = (*config.data, *config.distil_first)
        simulated = all(text.startswith("sim:") for text in texts)
        save_student(student.cpu().eval(), config.out, config.settings() | {
            "command": "tttkd train student", "sources": " ".join(texts),
            "data": SIMULATION if simulated else "recordings",
        })
        for stage in ("joint", "distil", "classify"):
            self._state(stage).unlink(missing_ok=True)
        if config.cache is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        print_digest(config.out)

    def _open(self, text: str, purpose: str) -> Iterable:
        parts = open_source(text, self.classes, purpose=purpose, seed=self.config.seed)
        if not parts:
            raise ValueError(f"source {text} has no sweep: leave it out, or name another one")
        return parts

    def _batches(self, frames: Sequence[Path], student: Student, fabric: Fabric) -> Batches:
        config = self.config
        settings = BatchSettings(
            config.batch, config.seed, student.coarsest_cell, config.voxel_size, config.kd_points,
            self.teacher.grid[0] * self.teacher.grid[1] if self.teacher else 0, config.point_range, config.augmentation,
        )
        return Batches(frames, settings, fabric.global_rank, fabric.world_size)

    def _teacher_on(self, device: str) -> FoundationModel:
        return load_teacher(self.config.teacher, input_size=self.teacher.input_size, engine="eager", device=device)

    def _state(self, stage: Stage) -> Path:
        return self.config.out.with_suffix(f".{stage}.pt")


def mean_feature(frames: Sequence[Path], teacher: FoundationModel, seed: int) -> Tensor:
    """Return the teacher's mean feature (dim,) at the visible points of frames, at most `_MEAN_FRAMES` of them."""
    generator = np.random.default_rng((seed, 3))
    total, count = torch.zeros(teacher.dim, dtype=torch.float64), 0
    for number in np.unique(np.linspace(0, len(frames) - 1, _MEAN_FRAMES).round().astype(int)):
        frame = read_frame(frames[number])
        maps = frame.maps if frame.maps is not None else teacher.of_resized(frame.images).flatten(1, 2).cpu()
        patch = correspondences(frame, maps.shape[1], generator).patch
        weights = torch.bincount(patch, minlength=len(maps) * maps.shape[1])
        total += weights.double() @ maps.flatten(0, 1).double()
        count += len(patch)
    if not count:
        raise ValueError("no camera sees a point of the data: check the calibration, or train with --distillation 0")
    return (total / count).float()


def _digest(teacher: Path) -> str:
    return digest(teacher if teacher.is_dir() else read_config(teacher).weights)


def _paths(parts: Sequence[PreparedPart]) -> list[Path]:
    return [path for part in parts for path in part.paths()]
