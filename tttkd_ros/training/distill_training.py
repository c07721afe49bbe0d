"""Pretraining of a backbone from recordings without labels: D-DITR (arXiv 2503.18944, section 3.2).

A linear head on the backbone's features predicts the features of the frozen 2D teacher at visible points. The head is
dropped at the end. Differences from the paper: the targets are centred by the teacher's mean feature, because raw
features of a ViT all point in much the same direction, and the loss is printed as -cosine instead of 1 - cosine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.segmenter.backbones import parse_options
from tttkd_ros.segmenter.checkpoint import SIMULATION
from tttkd_ros.segmenter.pretrained import save_backbone
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.training.distill_config import DistillConfig
from tttkd_ros.training.loop import train
from tttkd_ros.training.objective import LossSettings
from tttkd_ros.training.source_norms import SourceBatches, SourceObjective, keep_first_norms, split_norms
from tttkd_ros.training.training import Training, calibrate, from_simulator, mean_feature, paths, run_training

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train_backbone(config: DistillConfig) -> None:
    """Pretrain a backbone and write its file. Raises as `run_training`."""
    run_training(DistillTraining, config)


class DistillTraining(Training):
    """The pretraining of a backbone. Raises ValueError if the settings describe none, too."""

    stages = ("distill",)

    def __init__(self, config: DistillConfig):
        super().__init__(config, OUTDOOR, tuple(config.inputs))  # no label is read, so any classes serve
        self.student_config = StudentConfig(
            voxel_size=config.voxel_size, backbone=config.backbone, options=parse_options(config.options),
            inputs=config.inputs, head_width=0, **self.teacher_settings,
        )

    def frames(self, *, quiet: bool = False) -> list[list[Path]]:
        """Prepare all frames that are not there, and return those of each source. Raises as `visible`."""
        return [paths(self.visible([text], quiet=quiet)) for text in self.config.data]

    def run(self, fabric: Fabric) -> None:
        config = self.config
        sources = self.frames(quiet=True)
        teacher = self.teacher_on(fabric)
        torch.manual_seed(config.seed)
        student = Student(self.student_config).train()
        student.teacher_mean.copy_(mean_feature([path for source in sources for path in source], teacher, config.seed))
        batches = SourceBatches([self.batches(source, student, fabric, config.augmentation, config.point_range)
                                 for source in sources], config.seed)
        calibrate(student, lambda step: batches[step].batch)
        split_norms(student.backbone, len(sources))
        steps = config.steps or config.epochs * batches.per_epoch
        curves = self.curves(fabric, steps)

        def after_step(done: int, losses: dict[str, float]) -> None:
            curves.add_losses(done, losses)
            if done % config.save_every == 0 or done == steps:
                self.draw(fabric, curves)

        train(
            fabric, SourceObjective(student, "distil", LossSettings(), None, teacher), batches,
            config.optimisation(steps), title="backbone", seed=config.seed, resume=self.resume("distill"),
            state={"student": student, "curves": curves}, workers=config.workers, after_step=after_step,
        )  # fmt: skip
        curves.close()
        if fabric.is_global_zero:
            keep_first_norms(student.backbone)
            self.finish(student, self._provenance(), save_backbone)

    def _provenance(self) -> dict[str, str]:
        texts = self.config.data
        return {"command": "tttkd train distill", "sources": " ".join(texts),
                "data": SIMULATION if from_simulator(texts) else "recordings"}
