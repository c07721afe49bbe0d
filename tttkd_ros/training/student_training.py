"""Training of a student on a labelled source domain and a frozen teacher's features: jointly, as in TTT-KD, or
distilled first, as in MuDDoS (arXiv 2511.17455)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.classes import load_class_set
from tttkd_ros.digests import digest
from tttkd_ros.evaluation.metrics import class_iou, mean_iou
from tttkd_ros.segmenter.backbones import parse_options
from tttkd_ros.segmenter.checkpoint import SIMULATION
from tttkd_ros.segmenter.pretrained import backbone_provenance, load_backbone
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.teacher.foundation_model import FoundationModel
from tttkd_ros.training.batches import Batches
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.label_share import LabelShare
from tttkd_ros.training.loop import train
from tttkd_ros.training.losses import class_weights
from tttkd_ros.training.objective import LossSettings, Objective, Stage
from tttkd_ros.training.training import Training, calibrate, from_simulator, mean_feature, paths, run_training
from tttkd_ros.training.validation import validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train_student(config: TrainingConfig) -> None:
    """Train a student and write its checkpoint. Raises as `run_training`."""
    run_training(StudentTraining, config)


@dataclass(frozen=True)
class Frames:
    """The prepared frames of a training. label_counts: (classes,), points of the labelled ones. share: which these are
    of all that have labels."""

    labelled: list[Path]
    validation: list[Path]
    distilled: list[Path]
    label_counts: np.ndarray
    share: LabelShare


class StudentTraining(Training):
    """The training of a new student. Raises ValueError if the settings describe none, too."""

    stages = ("joint", "distil", "classify")

    def __init__(self, config: TrainingConfig):
        super().__init__(config, load_class_set(config.class_set), tuple(config.inputs),
                         uses_teacher=config.uses_teacher)
        teacher = self.teacher_settings
        if config.injects:
            teacher |= {"injection": config.injection, "image_dim": teacher["teacher_dim"]}
        self.student_config = StudentConfig(
            class_set=self.classes, voxel_size=config.voxel_size, backbone=config.backbone,
            options=parse_options(config.options), inputs=config.inputs,
            **teacher | ({} if config.distils else {"teacher_dim": 0}),
        )
        self.initial = None if config.init is None else load_backbone(config.init, self.student_config)

    def frames(self, *, quiet: bool = False) -> Frames:
        """Prepare all frames that are not there. Raises as `prepare`, or if labels are missing."""
        config = self.config
        labelled = self.prepared(config.data, quiet=quiet)
        validation = self.prepared(config.validation, images=config.injects, purpose="validation", quiet=quiet)
        distilled = self.prepared(config.distil_first, labels=False, quiet=quiet)
        for part in (*labelled, *validation):
            if not part.label_counts[: len(self.classes)].any():
                raise ValueError(f"{part.name} has no labels of the classes {self.classes.name}: leave it out, or name "
                                 "it under --distil-first")
        share = LabelShare(labelled, config.label_share, config.seed)
        if not quiet and config.label_share < 1:
            print(f"labelled frames: {share}")
        counts = share.label_counts()[: len(self.classes)]
        if not counts.any():
            raise ValueError(f"label_share is {config.label_share}: none of these frames has a label of the classes "
                             f"{self.classes.name}: choose a larger share, or another --seed")
        chosen = share.paths()
        return Frames(chosen, paths(validation), paths(distilled) or chosen, counts, share)

    def run(self, fabric: Fabric) -> None:
        config = self.config
        frames = self.frames(quiet=True)
        teacher = self.teacher_on(fabric)
        torch.manual_seed(config.seed)
        student = Student(self.student_config).train()
        labelled, distilled = (
            self.batches(each, student, fabric, config.augmentation, config.point_range, config.view_dropout)
            for each in (frames.labelled, frames.distilled)
        )
        if student.config.teacher_dim:
            student.teacher_mean.copy_(mean_feature(frames.distilled, teacher, config.seed))
        if config.init is None:
            calibrate(student, distilled.__getitem__)
        else:
            student.backbone.load_state_dict(self.initial, strict=False)  # an injection starts at random
        weights = class_weights(torch.from_numpy(frames.label_counts)).float()
        self._train(fabric, student, labelled, distilled, frames.validation,
                    weights if config.class_weights == "enet" else None, teacher)
        if fabric.is_global_zero:
            self.finish(student, provenance(config) | {"labelled_frames": str(frames.share)})

    def _train(self, fabric: Fabric, student: Student, labelled: Batches, distilled: Batches,
               validation: Sequence[Path], weights: Tensor | None, teacher: FoundationModel | None) -> None:
        config, losses = self.config, LossSettings(self.config.distillation, self.config.lovasz,
                                                   self.config.label_smoothing)
        steps = config.steps or config.epochs * labelled.per_epoch
        curves = self.curves(fabric, steps)
        stages: list[tuple[Stage, Batches, int]] = [("joint", labelled, steps)]
        if config.distil_first:
            stages = [("distil", distilled, steps // 2), ("classify", labelled, steps - steps // 2)]
        started = {} if config.init is None else {"init_digest": digest(config.init)}
        before = 0
        for stage, batches, count in stages:
            def after_step(done: int, values: dict[str, float], before: int = before, last: int = count) -> None:
                curves.add_losses(before + done, values)
                if done % (config.validate_every * labelled.per_epoch) and done != last:
                    return
                if validation:
                    matrix = validate(fabric, student, validation, teacher)
                    curves.add("mIoU/mean", before + done, mean_iou(matrix))
                    for name, iou in zip(self.classes.names, class_iou(matrix), strict=True):
                        curves.add(f"IoU/{name}", before + done, 100 * float(iou))
                self.draw(fabric, curves)

            objective = Objective(student, stage, losses, weights, teacher)
            train(fabric, objective, batches, config.optimisation(count), title=f"student, {stage}", seed=config.seed,
                  resume=self.resume(stage, **started), state={"student": student, "curves": curves},
                  workers=config.workers, after_step=after_step)
            before += count
        curves.close()


def provenance(config: TrainingConfig) -> dict[str, str]:
    """Return what the checkpoint of a training states about its making."""
    texts = (*config.data, *config.distil_first)
    before = {} if config.init is None else backbone_provenance(config.init)
    simulated = from_simulator(texts) and before.get("data", SIMULATION) == SIMULATION
    return config.settings() | {f"init.{name}": value for name, value in before.items()} | {
        "command": "tttkd train student", "sources": " ".join(texts),
        "data": SIMULATION if simulated else "recordings",
    }  # fmt: skip
