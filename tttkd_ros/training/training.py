"""What the trainings of a student share: processes, prepared frames, the frozen teacher, batches and files."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.classes import ClassSet
from tttkd_ros.datasets.source import open_source
from tttkd_ros.files import require_writable
from tttkd_ros.paths import resolve_teacher
from tttkd_ros.segmenter.checkpoint import save_student
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.foundation_model import FoundationModel, load_teacher, nearest_input_size
from tttkd_ros.training.augmentation import Augmentation
from tttkd_ros.training.batches import Batch, Batches, BatchSettings, correspondences
from tttkd_ros.training.curves import Curves
from tttkd_ros.training.devices import launch
from tttkd_ros.training.loop import Resume, print_digest
from tttkd_ros.training.preparation import FrameTeacher, PreparedPart, prepare
from tttkd_ros.training.prepared import FrameSettings, read_frame
from tttkd_ros.training.trainer_config import TrainerConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CALIBRATION_BATCHES = 20
_MEAN_FRAMES = 1000  # that the teacher's mean feature is computed of, at most


class Training(ABC):
    """One training. Its `frames` are prepared when they are first asked for, and found again later.

    inputs: features of points that the student takes. Raises ValueError if there are no data, or no such teacher.
    """

    stages: Sequence[str]  # each has a state from which it continues

    def __init__(self, config: TrainerConfig, class_set: ClassSet, inputs: Sequence[str], *, uses_teacher: bool = True):
        if not config.data:
            raise ValueError("no data to train on: name sources with --data")
        self.config, self.classes = config, class_set
        self.teacher: FoundationModel | None = None
        self._plain = FrameSettings(len(class_set), tuple(inputs))
        self._source = Path(resolve_teacher(str(config.teacher)))
        if uses_teacher:
            size = nearest_input_size(self._source, config.teacher_input)
            self.teacher = load_teacher(self._source, input_size=size, engine="eager")

    @abstractmethod
    def frames(self, *, quiet: bool = False):
        """Prepare all frames that are not there, and return them. Raises as `prepare`, or if they do not serve."""

    @abstractmethod
    def run(self, fabric: Fabric) -> None:
        """Train in one of the processes."""

    @property
    def folder(self) -> Path:
        """Return the folder of the prepared frames."""
        return self.config.cache or self.config.out.with_suffix(".frames")

    @property
    def teacher_settings(self) -> dict[str, object]:
        """Return what a `StudentConfig` says of the teacher."""
        if self.teacher is None:
            return {"teacher_dim": 0}
        return {"teacher_dim": self.teacher.dim, "teacher_input": self.teacher.input_size,
                "teacher_name": self.teacher.name}

    def prepared(self, texts: Sequence[str], *, labels: bool = True, images: bool = True, purpose: str = "student",
                 quiet: bool = False) -> list[PreparedPart]:
        """Prepare the frames of sources.

        labels: whether they are read; sweeps without any are left out then. images: for the teacher, if there is one.
        """
        config, settings, teacher = self.config, replace(self._plain, labelled=labels), None
        if images and self.teacher is not None:
            settings = replace(settings, grid=self.teacher.grid, input_size=self.teacher.input_size)
            if config.teacher_features == "cached":
                teacher = FrameTeacher.of(self._source, config.processes.device)
        parts = []
        for text in texts:
            parts += (found := open_source(text, self.classes if labels else None, purpose=purpose, seed=config.seed))
            if not found:
                raise ValueError(f"source {text} has no sweep: leave it out, or name another one")
        return prepare(parts, self.folder, settings, teacher, workers=config.workers, quiet=quiet)

    def visible(self, texts: Sequence[str], *, quiet: bool = False) -> list[PreparedPart]:
        """Prepare the frames of sources, whose labels are not read. Raises ValueError if cameras see no point of a
        part."""
        parts = self.prepared(texts, labels=False, quiet=quiet)
        for part in parts:
            if not part.visible:
                raise ValueError(f"no camera sees a point of {part.name}: check its cameras and their calibration, or "
                                 "leave it out")
        return parts

    def teacher_on(self, fabric: Fabric) -> FoundationModel | None:
        """Load the teacher on the device of a process."""
        if self.teacher is None:
            return None
        return load_teacher(self._source, input_size=self.teacher.input_size, engine="eager",
                            device=str(fabric.device))

    def batches(self, frames: Sequence[Path], student: Student, fabric: Fabric, augmentation: Augmentation,
                point_range: tuple[float, ...] = (), view_dropout: float = 1.0) -> Batches:
        """Return the batches of this process. view_dropout: for a student with injection, see `BatchSettings`."""
        config = self.config
        settings = BatchSettings(
            config.batch, config.seed, student.coarsest_cell, student.config.voxel_size, config.kd_points,
            self.teacher.grid[0] * self.teacher.grid[1] if self.teacher else 0, point_range, augmentation,
            view_dropout if student.config.injection else None,
        )
        return Batches(frames, settings, fabric.global_rank, fabric.world_size)

    def curves(self, fabric: Fabric, steps: int) -> Curves:
        """Make the curves, which one of the processes writes for TensorBoard."""
        return Curves(steps, self.config.out.with_suffix(".tensorboard") if fabric.is_global_zero else None)

    def draw(self, fabric: Fabric, curves: Curves) -> None:
        """Draw the curves beside the checkpoint."""
        if fabric.is_global_zero:
            curves.draw(self.config.out.with_suffix(".png"))

    def resume(self, stage: str, **more: str) -> Resume:
        """Say where the state of a stage is. more: settings beside those of the configuration."""
        return Resume(self._state(stage), self.config.settings() | more, self.config.save_every)

    def finish(self, student: Student, provenance: Mapping[str, str],
               save: Callable[[Student, Path, Mapping[str, str]], None] = save_student) -> None:
        """Write the checkpoint, and remove the files that only the training needed."""
        save(student.cpu().eval(), self.config.out, self.config.settings() | dict(provenance))
        for stage in self.stages:
            self._state(stage).unlink(missing_ok=True)
        if self.config.cache is None:
            shutil.rmtree(self.folder, ignore_errors=True)
        print_digest(self.config.out)

    def _state(self, stage: str) -> Path:
        return self.config.out.with_suffix(f".{stage}.pt")


def run_training(kind: type[Training], config: TrainerConfig) -> None:
    """Prepare the frames of a training, and run it in its processes.

    Raises:
        ValueError: the settings or the data do not fit together.
        OSError: a file cannot be written, or another process of the training has failed.
        FloatingPointError: the loss is no longer finite.
    """
    require_writable(config.out)
    if config.nodes == 1:
        kind(config).frames()  # here, so that errors of the data are this process's
    launch(config.processes, _run, kind, config)


def _run(fabric: Fabric, kind: type[Training], config: TrainerConfig) -> None:
    torch.set_num_threads(config.threads)
    training = kind(config)
    if config.nodes > 1:  # otherwise they are prepared before
        if fabric.is_global_zero:
            training.frames()
        fabric.barrier()
    training.run(fabric)


def from_simulator(texts: Sequence[str]) -> bool:
    """Return whether all sources are simulated worlds."""
    return all(text.startswith("sim:") for text in texts)


def paths(parts: Sequence[PreparedPart]) -> list[Path]:
    """Return the files of the frames of parts."""
    return [path for part in parts for path in part.paths()]


def calibrate(student: Student, batch: Callable[[int], Batch]) -> None:
    """Measure the constants of a new student's backbone. batch: returns that of a step."""
    drawn = map(batch, range(CALIBRATION_BATCHES))  # few backbones ask for any
    student.backbone.calibrate(student.prepare(each.clouds(), list(each.offsets)) for each in drawn)


def mean_feature(frames: Sequence[Path], teacher: FoundationModel, seed: int) -> Tensor:
    """Return the teacher's mean feature (dim,) at the visible points of frames, at most `_MEAN_FRAMES` of them."""
    generator = np.random.default_rng((seed, 3))
    total, count = torch.zeros(teacher.dim, dtype=torch.float64), 0
    for number in np.unique(np.linspace(0, len(frames) - 1, _MEAN_FRAMES).round().astype(int)):
        frame = read_frame(frames[number])
        maps = frame.maps if frame.maps is not None else teacher.of_resized(frame.images).flatten(1, 2).cpu()
        patch = correspondences(frame, maps.shape[1], generator).patch
        weights = torch.bincount(patch, minlength=len(maps) * maps.shape[1])
        total += weights.double() @ maps.flatten(0, 1).double()
        count += len(patch)
    if not count:
        raise ValueError("no camera sees a point of the data: check the calibration, or train with --distillation 0")
    return (total / count).float()
