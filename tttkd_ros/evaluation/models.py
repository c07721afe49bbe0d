"""The student and teacher of a run: those given, or those that ship."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from tttkd_ros.devices import require_device
from tttkd_ros.methods import METHODS
from tttkd_ros.paths import STUDENT, TEACHER, shipped_path

if TYPE_CHECKING:
    from tttkd_ros.segmenter.student import Student
    from tttkd_ros.teacher.foundation_model import FoundationModel

log = logging.getLogger(__name__)
NONE: Mapping[str, Path] = MappingProxyType({})


class Models:
    """Loads each model when it is first used. That raises ValueError or FileNotFoundError if it cannot be read.

    model is a student's checkpoint, teacher a folder or name as for `load_teacher`; by default those that ship.
    own_students: method -> checkpoint of its student, which has the same classes. Raises ValueError if there is no such
    device.
    """

    def __init__(
        self, model: Path | None = None, teacher: str | None = None, *, own_students: Mapping[str, Path] = NONE,
        engine: str = "auto", device: str = "cpu",
    ):
        require_device(device)
        self._model, self._teacher, self._own_students = model, teacher, own_students
        self._loaded: dict[str, Student] = {}
        self.engine, self.device = engine, device

    @property
    def paths(self) -> dict[str, Path]:
        """Name -> where the model is read from: model, teacher (perhaps a name on the hub) and the methods with a
        student of their own."""
        return {
            "model": self._model or shipped_path(STUDENT),
            "teacher": Path(self._teacher or shipped_path(TEACHER)),
            **self._own_students,
        }

    @cached_property
    def student(self) -> Student:
        from tttkd_ros.segmenter.checkpoint import load_student

        return load_student(self.paths["model"], self.device)

    def student_of(self, method: str) -> Student:
        """Return the method's own student, or the one that all other methods share."""
        from tttkd_ros.segmenter.checkpoint import load_student

        if not METHODS[method].own_student:
            return self.student
        if method not in self._own_students:
            raise ValueError(f"{method!r} has a student of its own: name its checkpoint with --{method}")
        if method not in self._loaded:
            classes = self.student.config.class_set
            self._loaded[method] = load_student(self._own_students[method], self.device, class_set=classes)
        return self._loaded[method]

    @cached_property
    def teacher(self) -> FoundationModel:
        """The teacher for the input size that the student was trained with."""
        from tttkd_ros.teacher.foundation_model import explain_other_name, load_teacher

        source = self._teacher or shipped_path(TEACHER)
        if other := explain_other_name(source, self.student.config.teacher_name):
            log.warning(other)
        return load_teacher(source, input_size=self.student.config.teacher_input,
                            engine=self.engine, device=self.device)


def load_models(
    model: Path | None = None, teacher: str | None = None, *, engine: str = "auto", device: str = "cpu",
    with_teacher: bool = True,
) -> tuple[Student, FoundationModel | None]:
    """Load the student and its teacher at once; arguments as for `Models`."""
    models = Models(model, teacher, engine=engine, device=device)
    return models.student, models.teacher if with_teacher else None
