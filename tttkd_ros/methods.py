"""The one table of methods: their names, what they need, and how they are made. Importing it loads no model code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tttkd_ros.adaptation.adapter import Adapter
    from tttkd_ros.adaptation.targets import Teacher
    from tttkd_ros.segmenter.student import Student

IMAGE_HEAD = "models/image_head/image_head.safetensors"


@dataclass(frozen=True)
class MethodSpec:
    """What a method needs.

    Args:
        build: makes the adapter from student (which it copies), teacher (None if no images are used) and seed, with
            `own_learning_rate` from learning_rate (None for the default), and with `uses_image_head` from image_head
            (None for the one that ships); None for a method that does not adapt.
        uses_images: it learns from images, and so needs a camera and a teacher.
        online: updates are kept from sweep to sweep.
        own_learning_rate: it has a learning rate, which is not that of `TTTConfig`.
        wrap: makes the student that predicts with the adapter's weights, if it is not the given one.
        uses_image_head: it has a 2D branch, which is an image head.
        own_student: its student is another one than that of all other methods, so it needs a checkpoint of its own.
    """

    build: Callable[..., Adapter] | None = None
    uses_images: bool = False
    online: bool = False
    own_learning_rate: bool = False
    wrap: Callable[[Student], Student] | None = None
    uses_image_head: bool = False
    own_student: bool = False

    def predictor(self, student: Student) -> Student:
        """Return the student that predicts with the weights of the adapter."""
        return student if self.wrap is None else self.wrap(student)


def _tent(student: Student, teacher: Teacher | None, seed: int, learning_rate: float | None = None) -> Adapter:
    from tttkd_ros.baselines.tent import Tent

    return Tent(student, seed, learning_rate)


def _dua(student: Student, teacher: Teacher | None, seed: int) -> Adapter:
    from tttkd_ros.baselines.dua import Dua

    return Dua(student, seed)


def _prototypes(student: Student, teacher: Teacher | None, seed: int) -> Adapter:
    from tttkd_ros.baselines.prototypes import Prototypes

    return Prototypes(student, seed)


def _adacontrast(student: Student, teacher: Teacher | None, seed: int, learning_rate: float | None = None) -> Adapter:
    from tttkd_ros.baselines.adacontrast import AdaContrast

    return AdaContrast(student, seed, learning_rate)


def _xmuda(student: Student, teacher: Teacher | None, seed: int, learning_rate: float | None = None,
           image_head: Path | None = None) -> Adapter:
    from tttkd_ros.baselines.xmuda import XMuda

    return XMuda(student, teacher, _image_head(student, teacher, image_head), seed, learning_rate)


def _mm_tta(student: Student, teacher: Teacher | None, seed: int, learning_rate: float | None = None,
            image_head: Path | None = None) -> Adapter:
    from tttkd_ros.baselines.mm_tta import MMTTA

    return MMTTA(student, teacher, _image_head(student, teacher, image_head), seed, learning_rate)


def _ttt_kd(student: Student, teacher: Teacher | None, seed: int) -> Adapter:
    from tttkd_ros.adaptation.online import OnlineTTTKD

    return OnlineTTTKD(student, teacher, seed)


def _with_batch_statistics(student: Student) -> Student:
    from tttkd_ros.baselines.batch_norm import with_batch_statistics

    return with_batch_statistics(student)


def _with_prototypes(student: Student) -> Student:
    from tttkd_ros.baselines.prototypes import with_prototypes

    return with_prototypes(student)


def _image_head(student: Student, teacher: Teacher, path: Path | None):
    from tttkd_ros.paths import shipped_path
    from tttkd_ros.teacher.image_head import load_image_head

    return load_image_head(path or shipped_path(IMAGE_HEAD), class_set=student.config.class_set, dim=teacher.dim)


FROZEN, ORACLE = "frozen", "oracle"
ONLINE_KD, PAPER_KD, OFFLINE_KD = TTT_KD = ("ttt-kd-o", "ttt-kd-o-paper", "ttt-kd")
METHODS: dict[str, MethodSpec] = {
    FROZEN: MethodSpec(),  # the student as it is: the paper's Joint-Train
    "source-only": MethodSpec(own_student=True),  # a student that was trained without a teacher, as it is
    "distilled": MethodSpec(own_student=True),  # one that was first distilled on unlabelled sweeps of the target too
    ORACLE: MethodSpec(own_student=True),  # one that was trained on the target's labels
    "tent": MethodSpec(_tent, online=True, own_learning_rate=True, wrap=_with_batch_statistics),
    "dua": MethodSpec(_dua, online=True),
    "prototypes": MethodSpec(_prototypes, online=True, wrap=_with_prototypes),
    "adacontrast": MethodSpec(_adacontrast, online=True, own_learning_rate=True),
    "xmuda": MethodSpec(_xmuda, uses_images=True, online=True, own_learning_rate=True, uses_image_head=True),
    "mm-tta": MethodSpec(_mm_tta, uses_images=True, online=True, own_learning_rate=True, uses_image_head=True),
    ONLINE_KD: MethodSpec(_ttt_kd, uses_images=True, online=True),
    PAPER_KD: MethodSpec(_ttt_kd, uses_images=True, online=True),  # the paper's algorithm and settings
    OFFLINE_KD: MethodSpec(_ttt_kd, uses_images=True),  # every sweep by itself, from the shipped weights
}
OWN_STUDENT = tuple(name for name, spec in METHODS.items() if spec.own_student)


def own_students(**checkpoints: Path | None) -> dict[str, Path]:
    """Return method -> checkpoint for the options of `OWN_STUDENT` that are given, e.g. source_only for source-only."""
    return {name.replace("_", "-"): path for name, path in checkpoints.items() if path is not None}
