"""What a backbone and a teacher cost on this machine: parameters, and seconds of a prediction and of a step.

The weights of the backbones are random, which takes as long as any others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.teacher.foundation_model import load_teacher

INPUT_SIZE = StudentConfig.teacher_input
STEP = TTTConfig(guard=False, steps=1, rotations=1, seconds=0.0)


@dataclass(frozen=True)
class BackboneCosts:
    """options: all of them. parameters: of the backbone alone. seconds: medians; a step is one gradient step on the
    default crop, without the teacher's time."""

    options: Mapping[str, object]
    parameters: int
    prediction_seconds: float
    step_seconds: float


@dataclass(frozen=True)
class TeacherCosts:
    """dim: width of the features. seconds: median for one image of `INPUT_SIZE`, its resizing included."""

    name: str
    engine: str
    dim: int
    parameters: int
    image_seconds: float


def backbone_costs(backbone: str, options: Mapping[str, object], features: Sequence[str], frame: Frame, *,
                   voxel_size: float, device: str, runs: int) -> BackboneCosts:
    """Measure a backbone on a frame with one view.

    features: of the points, that it takes. Raises ValueError if there is no such backbone or option, or the frame lacks
    a feature.
    """
    torch.manual_seed(0)
    config = StudentConfig(voxel_size=voxel_size, backbone=backbone, options=options,
                           inputs=dict.fromkeys(features, 1.0))
    student = Student(config).to(device).eval()
    segmenter, adapter = Segmenter(student), OnlineTTTKD(student, _FixedTeacher(config.teacher_dim, device))
    prediction = median_seconds(lambda: segmenter.segment(frame.upright, frame.upright_features), runs)
    step = median_seconds(lambda: adapter.step(frame, STEP), runs)
    return BackboneCosts(config.options, count_parameters(student.backbone), prediction, step)


def teacher_costs(source: str | Path, frame: Frame, *, engine: str, device: str, runs: int) -> TeacherCosts:
    """Measure a teacher on the frame's image. source, engine and errors: see `load_teacher`."""
    teacher = load_teacher(source, input_size=INPUT_SIZE, engine="eager", device=device)
    parameters = count_parameters(teacher.engine)  # the engine eager is the network
    if engine != "eager":
        teacher = load_teacher(source, input_size=INPUT_SIZE, engine=engine, device=device)
    image = [frame.views[0].image]
    seconds = median_seconds(lambda: teacher(image).cpu(), runs)
    return TeacherCosts(teacher.name, teacher.engine.name, teacher.dim, parameters, seconds)


def median_seconds(call: Callable[[], object], runs: int, limit: float = 5.0) -> float:
    """Return the median time of some calls after one that warms up. No call begins after `limit` seconds of them."""
    call()
    seconds: list[float] = []
    while len(seconds) < runs and sum(seconds) < limit:
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class _FixedTeacher:
    """Random features that cost no time."""

    grid = (INPUT_SIZE[0] // 14, INPUT_SIZE[1] // 14)

    def __init__(self, dim: int, device: str):
        self.dim = dim
        self._features = torch.randn(1, *self.grid, dim, device=device)

    def __call__(self, images: Sequence) -> Tensor:
        return self._features.expand(len(images), -1, -1, -1)
