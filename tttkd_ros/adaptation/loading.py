"""An adapter from files, for the thread or the process that is to use it."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from tttkd_ros.adaptation.ttt_kd import TTTKD
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.teacher import load_teacher

log = logging.getLogger(__name__)


def load_ttt_kd(model: Path, teacher: Path, *, engine: str, device: str, threads: int, seed: int) -> TTTKD:
    """As TTTKD. threads: of the CPU, for the student and the teacher. Raises what reading the two raises."""
    torch.set_num_threads(threads)
    student = load_student(model, device)
    size = student.config.teacher_input
    eyes = load_teacher(teacher, input_size=size, engine=engine, device=device, threads=threads)
    log.info("learning from %s (%s, %dx%d)", eyes.name, eyes.engine_name, size[1], size[0])
    return TTTKD(student, eyes, seed)
