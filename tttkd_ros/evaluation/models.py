"""The student and the teacher of a run: those given, or those that ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tttkd_ros.paths import share

if TYPE_CHECKING:
    from tttkd_ros.segmenter.student import Student
    from tttkd_ros.teacher import Teacher

STUDENT = "models/student/student.safetensors"
TEACHER = "models/teacher"


def load_models(
    model: Path | None = None,
    teacher: str | None = None,
    *,
    engine: str = "auto",
    device: str = "cpu",
    with_teacher: bool = True,
) -> tuple[Student, Teacher | None]:
    """Load both, the teacher for the input size that the student learnt from.

    Raises ValueError or FileNotFoundError where one is missing or cannot be read.
    """
    from tttkd_ros.segmenter.checkpoint import load_student

    student = load_student(model or share(STUDENT), device)
    if not with_teacher:
        return student, None
    from tttkd_ros.teacher import load_teacher

    size = student.config.teacher_input
    return student, load_teacher(teacher or share(TEACHER), input_size=size, engine=engine, device=device)
