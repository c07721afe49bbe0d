"""The settings that the trainings of a backbone share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from tttkd_ros.features import WIDTHS
from tttkd_ros.training.augmentation import Augmentation
from tttkd_ros.training.loop import Optimisation, Schedule
from tttkd_ros.training.trainer_config import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class BackboneConfig(TrainerConfig):
    """Settings that the trainings of a backbone share. Raises ValueError for bad values.

    Attributes:
        recipe: name of a file in config/training/, or path of one. Its keys are the options of `tttkd train student`,
            and an option that is given wins.
        backbone: the 3D network, scn or another one that `tttkd models` lists.
        options: of the backbone, name=value each, such as channels=16 levels=5 or widths=[16,32]. Those left out have
            their defaults.
        features: of each point, that the backbone takes, with a factor if wanted: intensity=0.0039. Normals are
            estimated. By default only the geometry counts.
        voxel_size: metres.
        point_range: smallest x, y, z and largest x, y, z of the points to train on, metres. By default all.
        epochs: passes over the data.
        steps: gradient steps instead of epochs; 0 for none.
        schedule: of the learning rate. one-cycle rises and falls; steps divides it by 10 after 80 % and 90 % of all
            steps.
        block_learning_rate: peak of the blocks of a transformer; 0 for the same.
        warm_up: share of the steps until the peak of one-cycle.
        div: the first rate of one-cycle is the peak divided by this.
        final_div: the last rate of one-cycle is the first one divided by this.
        weight_decay: of AdamW.
        clip: largest norm of the gradient; 0 does not clip it.
        augmentation: of the clouds.
    """

    FREE: ClassVar[tuple[str, ...]] = (*TrainerConfig.FREE, "recipe")
    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = (*TrainerConfig.AT_LEAST_ONE, "epochs")
    AT_LEAST_ZERO: ClassVar[tuple[str, ...]] = (
        *TrainerConfig.AT_LEAST_ZERO, "steps", "block_learning_rate", "weight_decay", "clip",
    )  # fmt: skip

    recipe: str = "simulated"
    data: tuple[str, ...] = ()
    backbone: str = "scn"
    options: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    voxel_size: float = 0.1
    point_range: tuple[float, ...] = ()
    epochs: int = 8
    steps: int = 0
    schedule: Schedule = "one-cycle"
    block_learning_rate: float = 0.0
    warm_up: float = 0.3
    div: float = 10.0
    final_div: float = 1000.0
    weight_decay: float = 1e-4
    clip: float = 10.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.warm_up < 1:
            raise ValueError(f"warm_up is {self.warm_up}, expected a share below 1")
        if not self.div >= 1 or not self.final_div >= 1:
            raise ValueError(f"div is {self.div} and final_div is {self.final_div}, expected at least 1")
        box = self.point_range
        if box and (len(box) != 6 or not all(low < high for low, high in zip(box[:3], box[3:], strict=True))):
            raise ValueError(f"point_range is {box}, expected x, y, z of the smallest corner, then of the largest one")
        _ = self.inputs  # it checks its own values

    @property
    def inputs(self) -> dict[str, float]:
        """Feature -> what its values are multiplied by."""
        inputs = {}
        for text in self.features:
            name, _, factor = text.partition("=")
            if name not in WIDTHS or name in inputs:
                raise ValueError(f"features is {' '.join(self.features)}, expected each once of {', '.join(WIDTHS)}")
            try:
                inputs[name] = float(factor or 1)
            except ValueError as error:
                raise ValueError(f"feature {text!r}: expected NAME or NAME=FACTOR") from error
        return inputs

    def optimisation(self, steps: int) -> Optimisation:
        """Return AdamW and its learning rate for a number of steps."""
        return Optimisation(steps, self.learning_rate, self.block_learning_rate or None, self.weight_decay, self.clip,
                            self.schedule, self.warm_up, self.div, self.final_div)
