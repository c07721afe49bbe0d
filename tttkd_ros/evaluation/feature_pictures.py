"""The teacher's features at the points of a sweep, and a student's prediction of them, as colours (DITR, figure 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tttkd_ros.adaptation.targets import Teacher, teacher_targets
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.plots import coloured_figure
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.student import Student
from tttkd_ros.teacher.feature_colours import MIN_FEATURES, FeatureColours

TEACHER, STUDENT = "features of the teacher", "as the student predicts them from the cloud, without adaptation"

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
    if len(shown) < MIN_FEATURES:
        return False
    features = student(cloud[in_range].to(student.teacher_mean.device))
    predicted = student.predict_teacher_features(features[(in_range.cumsum(0) - 1)[shown].to(features.device)])
    target = targets.features[in_range[targets.index].to(targets.table.device)].to(predicted) - student.teacher_mean
    target, predicted = target.cpu().numpy(), predicted.cpu().numpy()
    colours = FeatureColours(target)  # a colour stands for the same direction in both pictures
    points = frame.projectable[shown.numpy()]
    coloured_figure(path, frame.views[0], points, {TEACHER: colours(target), STUDENT: colours(predicted)})
    return True

