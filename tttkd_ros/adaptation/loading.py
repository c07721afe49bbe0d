"""Loads an adapter in the thread or process that will use it, and builds its teacher's engine ahead of time."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.foundation_model import load_teacher

log = logging.getLogger(__name__)


def load_ttt_kd(
    student: Student, teacher: str | Path, *, engine: str, device: str, threads: int, seed: int
) -> OnlineTTTKD:
    """Load the teacher and return the adapter of a student, which is copied.

    The student comes from memory, because its file may be gone when an adapter is replaced.

    Args:
        student: as published by the node.
        teacher: its folder or name.
        engine: runs the teacher.
        device: of student and teacher.
        threads: CPU threads of each of the two.
        seed: of all random draws.

    Raises:
        ValueError, OSError: the teacher cannot be read, or does not fit the student.
    """
    torch.set_num_threads(threads)
    size = student.config.teacher_input
    loaded = load_teacher(teacher, input_size=size, engine=engine, device=device, threads=threads, background=True)
    log.info("learning from %s (%s, %dx%d)", loaded.name, loaded.engine.name, size[1], size[0])
    return OnlineTTTKD(student, loaded, seed)


def build_teacher_engine(model: Path, teacher: str | Path, *, engine: str, device: str, threads: int) -> str:
    """Build the teacher's engine for the input size of the model's student, and return a message about it.

    Raises:
        ValueError: the requested engine does not agree with eager, or a file cannot be used.
        OSError: a file cannot be read.
    """
    size = load_student(model, "cpu").config.teacher_input
    built = load_teacher(teacher, input_size=size, engine=engine, device=device, threads=threads).engine
    if engine not in ("auto", built.name):
        raise ValueError(f"the teacher's engine {engine!r} was refused: the log says why; use 'auto' or 'eager'")
    if built.cache_path is None:
        return f"the teacher's engine is {built.name}: it is not stored, each start builds it in seconds"
    return f"the teacher's engine is {built.name}; each start reads it from {built.cache_path}"
