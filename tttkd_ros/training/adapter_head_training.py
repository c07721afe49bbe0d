"""Training of an adapter head: rho_2D, and the teacher's mean feature, of a student that is otherwise not changed.

The segmenter then adapts to the teacher. It needs unlabelled recordings only, of the domain that it was trained on: in
another one the head would learn to explain the features that adaptation is to correct.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tttkd_ros.digests import digest
from tttkd_ros.segmenter.checkpoint import SIMULATION, describe, load_student
from tttkd_ros.segmenter.student import Student
from tttkd_ros.training.adapter_head_config import AdapterHeadConfig
from tttkd_ros.training.augmentation import Augmentation
from tttkd_ros.training.loop import Optimisation, train
from tttkd_ros.training.objective import LossSettings, Objective
from tttkd_ros.training.training import Training, from_simulator, mean_feature, paths, run_training

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# A frozen backbone learns no invariance from augmented clouds. So these are the clouds that adaptation shows it: turned
# about the vertical, neither mirrored nor deformed.
AUGMENTATION = Augmentation(linear_noise=0.0, flip_x=0.0, flip_y=0.0)


def train_adapter_head(config: AdapterHeadConfig) -> None:
    """Train the head and write the segmenter with it. Raises as `run_training`, and FileNotFoundError."""
    try:
        replaced, _ = describe(config.segmenter)
    except ValueError as error:
        raise ValueError(f"{error}; a checkpoint of Pointcept needs `tttkd import pointcept` first") from error
    if replaced.teacher_dim:
        print(f"{config.segmenter} has a head for the teacher {replaced.teacher_name or '(unnamed)'}: it is replaced")
    run_training(AdapterHeadTraining, config)


class AdapterHeadTraining(Training):
    """The training of a head for an existing segmenter. Raises ValueError or FileNotFoundError if there is none."""

    stages = ("head",)

    def __init__(self, config: AdapterHeadConfig):
        self.segmenter = load_student(config.segmenter)
        super().__init__(config, self.segmenter.config.class_set, tuple(self.segmenter.config.inputs))
        self._check_injection()

    def _check_injection(self) -> None:
        """Raise ValueError if the segmenter takes the image features of another teacher than the head would learn."""
        taken = self.segmenter.config
        own, found = (taken.teacher_name, taken.teacher_input), (self.teacher.name, self.teacher.input_size)
        if taken.injection and own != found:
            raise ValueError("the segmenter takes image features of the teacher {} at {}, so its head must learn the "
                             "same, not those of {} at {}: choose --teacher and --teacher-input".format(*own, *found))

    def frames(self, *, quiet: bool = False) -> list[Path]:
        """Prepare all frames that are not there. Raises as `prepare`, or if cameras see no point of a part."""
        return paths(self.visible(self.config.data, quiet=quiet))

    def run(self, fabric: Fabric) -> None:
        config = self.config
        frames = self.frames(quiet=True)
        teacher = self.teacher_on(fabric)
        torch.manual_seed(config.seed)
        student = with_new_head(self.segmenter, self.teacher_settings)
        student.teacher_mean.copy_(mean_feature(frames, teacher, config.seed))
        curves = self.curves(fabric, config.steps)

        def after_step(done: int, losses: dict[str, float]) -> None:
            curves.add_losses(done, losses)
            if done % config.save_every == 0 or done == config.steps:
                self.draw(fabric, curves)

        train(
            fabric, Objective(student, "head", LossSettings(), None, teacher),
            self.batches(frames, student, fabric, AUGMENTATION), Optimisation(config.steps, config.learning_rate),
            title="adapter head", seed=config.seed, resume=self.resume("head", checkpoint=digest(config.segmenter)),
            state={"head": student.teacher_head, "curves": curves}, workers=config.workers, after_step=after_step,
        )  # fmt: skip
        curves.close()
        if fabric.is_global_zero:
            self.finish(student, self._provenance())

    def _provenance(self) -> dict[str, str]:
        """Say how the head was trained, and how the segmenter was."""
        _, before = describe(self.config.segmenter)
        simulated = self.segmenter.simulated and from_simulator(self.config.data)
        return {f"segmenter.{name}": value for name, value in before.items()} | {
            "command": "tttkd train adapter-head", "sources": " ".join(self.config.data),
            "data": SIMULATION if simulated else "recordings",
        }  # fmt: skip


def with_new_head(segmenter: Student, teacher_settings: dict[str, object]) -> Student:
    """Return a copy of a student, in eval mode, with a random head for a teacher and a mean feature of 0."""
    student = Student(replace(segmenter.config, **teacher_settings))
    own = {name: tensor for name, tensor in segmenter.state_dict().items() if not name.startswith("teacher_")}
    student.load_state_dict(own, strict=False)
    return student.eval()
