"""The subcommands of `tttkd train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import tyro

from tttkd_ros.training.adapter_head_config import AdapterHeadConfig
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.distill_config import DistillConfig, distill_defaults
from tttkd_ros.training.image_head_training import train_image_head
from tttkd_ros.training.recipes import load_recipe, recipe_of
from tttkd_ros.training.teacher_training import train_teacher


def train_commands(arguments: Sequence[str]) -> dict[str, Callable]:
    """Return the subcommands. arguments: of `tttkd`; the recipe that they name has the defaults of a training.

    Raises ValueError if there is no such recipe.
    """
    asked = list(arguments[:2]) in (["train", "student"], ["train", "distill"])
    defaults = load_recipe(recipe_of(arguments)) if asked else TrainingConfig()
    distill = distill_defaults(defaults)

    def train_student(config=defaults) -> None:
        """Train a student jointly: cross-entropy with labels plus the distillation of the teacher's features.

        An interrupted training continues with the same command.
        """
        from tttkd_ros.training import student_training  # it takes seconds that no other command should wait for

        student_training.train_student(config)

    def train_backbone(config=distill) -> None:
        """Pretrain a backbone without labels: distil the teacher's features into it (D-DITR).

        It takes recordings with cameras. `tttkd train student --init FILE` starts from the file. An interrupted
        training continues with the same command.
        """
        from tttkd_ros.training import distill_training

        distill_training.train_backbone(config)

    def train_adapter_head(config) -> None:
        """Make an existing segmenter adaptable: fit the projection to the teacher's features, and nothing else.

        It takes unlabelled recordings with cameras. Predictions without adaptation stay as they are. An interrupted
        training continues with the same command.
        """
        from tttkd_ros.training import adapter_head_training

        adapter_head_training.train_adapter_head(config)

    train_adapter_head.__annotations__ = {"config": Annotated[AdapterHeadConfig, tyro.conf.arg(name="")]}
    train_student.__annotations__ = {"config": Annotated[TrainingConfig, tyro.conf.arg(name="")]}
    train_backbone.__annotations__ = {"config": Annotated[DistillConfig, tyro.conf.arg(name="")]}
    return {"teacher": train_teacher, "distill": train_backbone, "student": train_student,
            "adapter-head": train_adapter_head, "image-head": train_image_head}
