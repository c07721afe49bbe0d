"""The settings of a student's training: the options of `tttkd train student`, and the keys of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tttkd_ros.training.backbone_config import BackboneConfig


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(BackboneConfig):
    """Settings of a student's training. Raises ValueError for bad values.

    Attributes:
        data: labelled sources to train on, such as sim:a2d2 or semantickitti:FOLDER:00-06.
        validation: labelled sources whose mIoU is measured during the training.
        distil_first: train in two stages, as MuDDoS does. The first half of the steps distils the teacher's features on
            these sources, which need no labels. The second half trains the class head on the data's labels, and the
            backbone is frozen.
        init: file whose backbone the training starts from: of `tttkd train distill`, or a student. Backbone, options,
            features and voxel size must be the same.
        label_share: train on this share of the labelled frames, a fixed list that the seed draws. Smaller shares are
            part of larger ones. The number of steps stays that of all frames.
        class_set: name of the classes, or a YAML file of one's own.
        distillation: weight of L_2D; 0 trains a student without a teacher on labels alone (Source-Only), unless
            distil_first is given.
        injection: where the teacher's image features are added to the student's own (DITR); the student then needs
            images while it predicts. decoder is the paper's choice, at each level on the way up; input, last and output
            are the stem, the finest of these levels, and the result. none is a student without.
        view_dropout: probability that a view is not injected, so that a missing camera costs accuracy and no more. The
            student learns the teacher's features (L_2D) at the points of these views.
        class_weights: of the cross-entropy. enet counts rare classes more (ENet's logarithmic weights).
        label_smoothing: of the cross-entropy.
        lovasz: weight of the Lovasz-Softmax loss.
        validate_every: epochs between two validations.
    """

    FREE: ClassVar[tuple[str, ...]] = (*BackboneConfig.FREE, "validation", "validate_every")
    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = (*BackboneConfig.AT_LEAST_ONE, "validate_every")
    AT_LEAST_ZERO: ClassVar[tuple[str, ...]] = (*BackboneConfig.AT_LEAST_ZERO, "distillation", "lovasz")

    out: Path = Path("models/student/student.safetensors")
    validation: tuple[str, ...] = ()
    distil_first: tuple[str, ...] = ()
    init: Path | None = None
    label_share: float = 1.0
    class_set: str = "outdoor10"
    distillation: float = 1.0
    injection: Literal["none", "input", "decoder", "last", "output"] = "none"
    view_dropout: float = 0.8
    class_weights: Literal["enet", "none"] = "enet"
    label_smoothing: float = 0.0
    lovasz: float = 0.0
    validate_every: int = 1

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}, expected a share below 1")
        if not 0 < self.label_share <= 1:
            raise ValueError(f"label_share is {self.label_share}, expected more than 0 and at most 1")
        if self.init is not None and self.init.resolve() == self.out.resolve():
            raise ValueError(f"out is {self.out}, the file to start from: name another file")
        if not 0 <= self.view_dropout <= 1:
            raise ValueError(f"view_dropout is {self.view_dropout}, expected a probability from 0 to 1")
        if self.injects and self.distils and not self.view_dropout:
            raise ValueError("view_dropout is 0, so every view is injected, and none is left whose features could be "
                             "learned: choose a larger one, or --distillation 0")
        if self.injects and self.view_dropout == 1:
            raise ValueError("view_dropout is 1, so no view is injected, and the injection learns nothing: choose a "
                             "smaller one, or --injection none")
        self.require_distinct("validation", "distil_first")

    @property
    def injects(self) -> bool:
        return self.injection != "none"

    @property
    def distils(self) -> bool:
        """Whether the student learns the teacher's features, so can adapt to it."""
        return self.distillation > 0 or bool(self.distil_first)

    @property
    def uses_teacher(self) -> bool:
        return self.distils or self.injects
