"""The settings of the pretraining of a backbone: the options of `tttkd train distill`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from tttkd_ros.training.backbone_config import BackboneConfig
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.devices import Processes


@dataclass(frozen=True, kw_only=True)
class DistillConfig(BackboneConfig):
    """Settings of the pretraining of a backbone. Raises ValueError for bad values.

    Attributes:
        recipe: name of a file in config/training/, or path of one. Of its keys, those that are options here count, and
            an option that is given wins.
        data: recordings with cameras, such as bags, sim:a2d2 or semantickitti:FOLDER:00-06. Their labels are not read.
            Of several sources, name first the one that you will fine-tune on: each has a BatchNorm of its own, and the
            file keeps that of the first.
        out: file to write: the backbone.
    """

    out: Path = Path("models/backbone.safetensors")

    @property
    def processes(self) -> Processes:
        # A step uses the BatchNorm of one source alone.
        return replace(super().processes, unused_parameters=len(self.data) > 1)


def distill_defaults(recipe: TrainingConfig) -> DistillConfig:
    """Return what a recipe of a student's training says of the pretraining of its backbone."""
    shared = {field.name: getattr(recipe, field.name) for field in fields(DistillConfig) if field.name != "out"}
    return DistillConfig(**shared)
