"""An adapter, made in the thread or the process that is to use it; and its teacher's engine, built ahead of time."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from tttkd_ros.adaptation.ttt_kd import TTTKD
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher import load_teacher

log = logging.getLogger(__name__)


def load_ttt_kd(student: Student, teacher: Path, *, engine: str, device: str, threads: int, seed: int) -> TTTKD:
    """As TTTKD, of a copy of the student. threads: of the CPU, for the student and the teacher.

    The student is not read from its file, which may be gone when an adapter is built anew. Raises what reading the
    teacher raises.
    """
    torch.set_num_threads(threads)
    size = student.config.teacher_input
    eyes = load_teacher(teacher, input_size=size, engine=engine, device=device, threads=threads, background=True)
    log.info("learning from %s (%s, %dx%d)", eyes.name, eyes.engine.name, size[1], size[0])
    return TTTKD(student, eyes, seed)


def build_engine(model: Path, teacher: Path, *, engine: str, device: str, threads: int) -> str:
    """Build what is to run the teacher, for the input size of the model's student, and keep it. What there is to say.

    Raises what reading the two raises, and ValueError where an engine that was asked for by name does not pass.
    """
    size = load_student(model, "cpu").config.teacher_input
    built = load_teacher(teacher, input_size=size, engine=engine, device=device, threads=threads).engine
    if engine not in ("auto", built.name):
        raise ValueError(f"the teacher's engine {engine!r} did not pass: the log says why; use 'auto' or 'eager'")
    if built.cache_path is None:
        return f"the teacher's engine is {built.name}: there is nothing to keep, each start makes it anew in seconds"
    return f"the teacher's engine is {built.name}; each start will find it at {built.cache_path}"
