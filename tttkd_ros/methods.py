"""Every method of online adaptation by name, and what it takes to run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tttkd_ros.adaptation.adapter import Adapter
from tttkd_ros.adaptation.batch_norm import with_batch_statistics
from tttkd_ros.adaptation.targets import Teacher
from tttkd_ros.adaptation.ttt_kd import TTTKD
from tttkd_ros.baselines.adacontrast import AdaContrast
from tttkd_ros.baselines.dua import Dua
from tttkd_ros.baselines.mm_tta import MMTTA
from tttkd_ros.baselines.tent import Tent
from tttkd_ros.baselines.xmuda import XMuda
from tttkd_ros.paths import shipped_path
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.image_head import ImageHead, load_image_head

IMAGE_HEAD = "models/image_head/image_head.safetensors"


@dataclass(frozen=True)
class Online:
    """build(student, teacher, seed) makes the adapter; it copies the student. needs_teacher: else the teacher may be
    None. predictor(student): what is to predict with the weights that the adapter publishes.
    """

    build: Callable[[Student, Teacher | None, int], Adapter]
    needs_teacher: bool
    predictor: Callable[[Student], Student] = lambda student: student


def _head(student: Student, teacher: Teacher) -> ImageHead:
    return load_image_head(shipped_path(IMAGE_HEAD), class_set=student.config.class_set, dim=teacher.dim)


METHODS: dict[str, Online] = {
    "ttt-kd-o": Online(lambda student, teacher, seed: TTTKD(student, teacher, seed), True),
    "tent": Online(lambda student, teacher, seed: Tent(student, seed=seed), False, with_batch_statistics),
    "dua": Online(lambda student, teacher, seed: Dua(student, seed=seed), False),
    "adacontrast": Online(lambda student, teacher, seed: AdaContrast(student, seed=seed), False),
    "xmuda": Online(lambda student, teacher, seed: XMuda(student, teacher, _head(student, teacher), seed=seed), True),
    "mm-tta": Online(lambda student, teacher, seed: MMTTA(student, teacher, _head(student, teacher), seed=seed), True),
}
