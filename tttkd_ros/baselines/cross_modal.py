"""What xMUDA and MM-TTA share here: a 2D class branch beside the 3D one, both adapted by their BatchNorm."""

from __future__ import annotations

import torch

from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.baselines.baseline import Baseline, S, Scene
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.image_head import ImageHead


class CrossModal(Baseline[S]):
    """A baseline that also learns from what the 2D branch says at the points that a camera sees.

    In the papers the 2D branch is a U-Net with a ResNet34 encoder, trained on the source, that answers per pixel. Here
    it is the frozen teacher with an `ImageHead`, trained on the source, that answers per patch; of it, as of the
    student's backbone, BatchNorm is what adapts. Only the 3D branch is handed over and judged.
    """

    def __init__(self, student: Student, teacher: Teacher, head: ImageHead, learning_rate: float, seed: int = 0):
        if (head.class_set, head.dim) != (student.config.class_set, teacher.dim):
            raise ValueError(
                f"the image head knows {head.class_set!r} from {head.dim} features, but the student has "
                f"{student.config.class_set!r} and the teacher {teacher.dim} features; train one that fits"
            )
        self._teacher, self._head = teacher, head.to(student.teacher_mean.device)
        super().__init__(student, learning_rate, seed)

    def _look(self, state: S, frame: Frame) -> Scene:
        everything = torch.tensor(frame.upright)
        usable = state.student.in_range(everything)
        device = state.student.teacher_mean.device
        targets = teacher_targets(frame, self._teacher, state.random)
        seen = usable[targets.index]
        visible = (usable.cumsum(0) - 1)[targets.index[seen]]  # numbered among the usable points
        features = targets.features[seen.to(targets.patch.device)]
        return Scene(everything[usable].to(device), visible.to(device), features.to(device))
