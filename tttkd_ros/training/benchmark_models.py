"""The models of a benchmark's recipe: which there are, what they need, and training those that are missing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from tttkd_ros.classes import load_class_set
from tttkd_ros.datasets.source import MissingFolder, open_source
from tttkd_ros.digests import differences
from tttkd_ros.evaluation.part_drives import PURPOSE
from tttkd_ros.methods import METHODS
from tttkd_ros.segmenter.checkpoint import describe
from tttkd_ros.teacher.foundation_model import nearest_input_size
from tttkd_ros.teacher.image_head import describe_image_head
from tttkd_ros.training import image_head_training, student_training
from tttkd_ros.training.benchmark_recipe import DATA, BenchmarkRecipe
from tttkd_ros.training.config import TrainingConfig


@dataclass(frozen=True)
class BenchmarkModels:
    """The models of a recipe in a folder.

    training: settings of the student; its output is in the folder.
    """

    recipe: BenchmarkRecipe
    training: TrainingConfig
    folder: Path

    @cached_property
    def students(self) -> dict[str, TrainingConfig]:
        """Method -> training of its student. The frozen one is that of all methods without a student of their own."""
        cache = self.folder / "frames"
        variants: dict[str, dict] = {"source-only": {"distillation": 0.0}, "frozen": {},
                                     "oracle": {"data": self.recipe.target}}
        names = {"source-only": "source_only", "frozen": "joint", "oracle": "oracle"}
        return {method: replace(self.training, out=self.folder / f"{names[method]}.safetensors", cache=cache, **changes)
                for method, changes in variants.items() if method in self.recipe.methods}

    @property
    def image_head(self) -> Path | None:
        """None if no row needs one."""
        needed = any(METHODS[method].uses_image_head for method in self.recipe.methods)
        return self.folder / "image_head.safetensors" if needed else None

    def check(self) -> None:
        """Raise ValueError if the data of a missing model, of the evaluation or the teacher are not there, with all of
        them at once, or if a model that is there has other settings."""
        for method, path in self._paths.items():
            if path.exists():
                self._require_same(method, path)
        needed = dict.fromkeys(self.recipe.evaluation, PURPOSE)
        for method in self._missing:
            config = self.students.get(method, self.training)
            needed |= dict.fromkeys(config.data, "student") | dict.fromkeys(config.validation, "validation")
        self._require_data(needed)

    def train_missing(self) -> None:
        """Train the models that are not there. An interrupted training continues. Raises as `train_student`."""
        missing = self._missing
        for method in missing:
            if method in self.students:
                student_training.train_student(self.students[method])
            else:
                config = self.training
                image_head_training.train_image_head(
                    self.image_head, **self._head_options, cache=self.folder / "frames", workers=config.workers,
                    accelerator=config.accelerator, threads=config.threads,
                )
        if missing:
            shutil.rmtree(self.folder / "frames", ignore_errors=True)

    @property
    def _paths(self) -> dict[str, Path]:
        """Method, or "image head" -> file. The head comes after the student whose prepared frames it uses."""
        head = {} if self.image_head is None else {"image head": self.image_head}
        return {method: config.out for method, config in self.students.items()} | head

    @property
    def _missing(self) -> list[str]:
        return [method for method, path in self._paths.items() if not path.exists()]

    @property
    def _head_options(self) -> dict:
        """What decides the image head."""
        config = self.training
        return dict(data=config.data, class_set=config.class_set, teacher=config.teacher,
                    teacher_input=config.teacher_input, seed=config.seed, **asdict(self.recipe.image_head))

    def _require_same(self, method: str, path: Path) -> None:
        if method in self.students:
            found, expected = describe(path)[1], student_training.provenance(self.students[method])
        else:
            found, expected = describe_image_head(path), image_head_training.provenance(self._head_options)
        if different := differences(found, expected):
            raise ValueError(f"{path} was trained with other settings ({'; '.join(different)}): choose another folder, "
                             "or remove this file to train it anew")

    def _require_data(self, sources: Mapping[str, str]) -> None:
        """sources: text -> purpose."""
        classes, folders, problems = load_class_set(self.training.class_set), [], []
        for text, purpose in sources.items():
            try:
                open_source(text, classes, purpose=purpose, seed=self.training.seed if purpose != PURPOSE else 0)
            except MissingFolder as error:
                folders.append((error.kind, error.folder))
            except ValueError as error:
                problems.append(str(error))
        if self.training.uses_teacher:
            try:
                nearest_input_size(self.training.teacher, self.training.teacher_input)
            except ValueError as error:
                problems.append(str(error))
        if folders:
            problems.insert(0, _missing_folders(folders))
        if problems:
            raise ValueError("; ".join(problems))


def _missing_folders(folders: Sequence[tuple[str, Path]]) -> str:
    where = ", ".join(dict.fromkeys(f"{kind} in {folder}" for kind, folder in folders))
    options = " ".join(dict.fromkeys(f"{kind}=FOLDER" for kind, folder in folders if DATA in folder.parts[:1]))
    return f"data sets are missing, expected {where}: unpack or link them there" + (
        f", or name their folders with --data-folder {options}" if options else "")
