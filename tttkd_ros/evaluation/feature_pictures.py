"""The teacher's features at the points of a sweep, and a student's prediction of them, as colours (DITR, figure 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.plots import coloured_figure
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student

TEACHER, STUDENT = "features of the teacher", "as the student predicts them from the cloud, without adaptation"
PERCENTILES = 2, 98  # of a component, that become its darkest and brightest colour
MIN_POINTS = 4  # fewer have no three components

DrawFeatures = Callable[[Path, Frame], bool]  # draws a frame to a file, and says whether there was anything to draw


def feature_drawer(models: Models) -> DrawFeatures | None:
    """Return what draws a frame; None if there is no teacher, or the student has no head for it."""
    if not models.student.config.teacher_dim:
        return None
    try:
        teacher = models.teacher
    except (ValueError, OSError):  # the report says why; the other pictures need no teacher
        return None
    if teacher.dim != models.student.config.teacher_dim:
        return None
    return lambda path, frame: draw_features(path, frame, models.student, teacher)


@torch.no_grad()
def draw_features(path: Path, frame: Frame, student: Student, teacher: Teacher) -> bool:
    """Draw the points that the first camera sees on its image, in the colours of their features.

    Returns whether enough points are in view and in range; otherwise nothing is drawn.
    """
    if not frame.views:
        return False
    targets = teacher_targets(replace(frame, views=frame.views[:1]), teacher, torch.Generator())
    cloud = student.points(frame.upright, frame.upright_features)
    in_range = student.in_range(cloud.xyz)
    shown = targets.index[in_range[targets.index]]
    if len(shown) < MIN_POINTS:
        return False
    features = student(cloud[in_range].to(student.teacher_mean.device))
    predicted = student.predict_teacher_features(features[(in_range.cumsum(0) - 1)[shown].to(features.device)])
    target = targets.features[in_range[targets.index].to(targets.table.device)].to(predicted) - student.teacher_mean
    panels = {TEACHER: target.cpu().numpy(), STUDENT: predicted.cpu().numpy()}
    points = frame.projectable[shown.numpy()]
    coloured_figure(path, frame.views[0], points, dict(zip(panels, feature_colours(panels), strict=True)))
    return True


def feature_colours(panels: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the colours (M, 3) uint8 of each panel's features (M, dim): the three main components of the first panel's
    directions. A colour stands for the same direction in all panels. The length of a feature does not count, because
    the loss is a cosine."""
    directions = [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in panels.values()]
    mean = directions[0].mean(0)
    _, _, axes = np.linalg.svd(directions[0] - mean, full_matrices=False)
    components = [(each - mean) @ axes[:3].T for each in directions]
    low, high = np.percentile(components[0], PERCENTILES, axis=0)
    for each in components:
        yield (255 * np.clip((each - low) / np.maximum(high - low, 1e-12), 0, 1)).astype(np.uint8)
