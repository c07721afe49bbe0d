"""The student and teacher of a run: those given, or those that ship."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tttkd_ros.devices import require_device
from tttkd_ros.paths import STUDENT, TEACHER, shipped_path

if TYPE_CHECKING:
    from tttkd_ros.segmenter.student import Student
    from tttkd_ros.teacher.dinov2 import Dinov2Teacher


class Models:
    """Loads each model when it is first used. That raises ValueError or FileNotFoundError if it cannot be read.

    model is a student's checkpoint, teacher a directory or hub name; by default those that ship. source_only is the
    checkpoint of a student of the same classes that was trained without the teacher. Raises ValueError if there is no
    such device.
    """

    def __init__(
        self, model: Path | None = None, teacher: str | None = None, *, source_only: Path | None = None,
        engine: str = "auto", device: str = "cpu",
    ):
        require_device(device)
        self._model, self._teacher, self._source_only = model, teacher, source_only
        self.engine, self.device = engine, device

    @property
    def paths(self) -> dict[str, Path | None]:
        """Name -> where the model is read from; for a teacher that may be its name on the hub."""
        return {
            "model": self._model or shipped_path(STUDENT),
            "teacher": Path(self._teacher or shipped_path(TEACHER)),
            "source_only": self._source_only,
        }

    @cached_property
    def student(self) -> Student:
        from tttkd_ros.segmenter.checkpoint import load_student

        return load_student(self.paths["model"], self.device)

    @cached_property
    def source_only(self) -> Student:
        from tttkd_ros.segmenter.checkpoint import load_student

        if self._source_only is None:
            raise ValueError("no student trained without the teacher is given: name its checkpoint with --source-only")
        return load_student(self._source_only, self.device, class_set=self.student.config.class_set)

    @cached_property
    def teacher(self) -> Dinov2Teacher:
        """The teacher for the input size that the student was trained with."""
        from tttkd_ros.teacher.dinov2 import load_teacher

        return load_teacher(self._teacher or shipped_path(TEACHER), input_size=self.student.config.teacher_input,
                            engine=self.engine, device=self.device)


def load_models(
    model: Path | None = None, teacher: str | None = None, *, engine: str = "auto", device: str = "cpu",
    with_teacher: bool = True,
) -> tuple[Student, Dinov2Teacher | None]:
    """Load the student and its teacher at once; arguments as for `Models`."""
    models = Models(model, teacher, engine=engine, device=device)
    return models.student, models.teacher if with_teacher else None
