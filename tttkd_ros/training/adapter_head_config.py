"""The settings of the training of an adapter head: the options of `tttkd train adapter-head`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tttkd_ros.training.trainer_config import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class AdapterHeadConfig(TrainerConfig):
    """Settings of the training of an adapter head. Raises ValueError for bad values.

    Attributes:
        segmenter: student checkpoint without a head, such as one that `tttkd import` or a training without distillation
            has written. A head that it has is replaced.
        out: checkpoint to write: the segmenter with the head.
        data: recordings of the domain that the segmenter was trained on, such as bags, sim:a2d2 or
            semantickitti:FOLDER:00-06. Their labels are not read.
        steps: gradient steps.
        seed: of the head, batches and simulated drives.
    """

    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = (*TrainerConfig.AT_LEAST_ONE, "steps")

    segmenter: Path
    steps: int = 500

    def __post_init__(self):
        super().__post_init__()
        if self.segmenter.resolve() == self.out.resolve():
            raise ValueError(f"out is {self.out}, the segmenter itself: name another file")
