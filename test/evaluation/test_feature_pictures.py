"""Pictures of features: only visible points in range count."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from tttkd_ros.evaluation.feature_pictures import draw_features, feature_drawer
from tttkd_ros.evaluation.models import Models


def test_a_sweep_is_drawn_with_both(tiny, tmp_path):
    models = Models(tiny.model, str(tiny.teacher), engine="eager")
    (frame,) = tiny.frames(0, 1)
    path = tmp_path / "features.png"
    assert feature_drawer(models)(path, frame)
    image = np.asarray(Image.open(path).convert("RGB"))
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_nothing_is_drawn_without_a_view_or_a_point(tiny, tmp_path):
    models = Models(tiny.model, str(tiny.teacher), engine="eager")
    (frame,) = tiny.frames(0, 1)
    path = tmp_path / "features.png"
    for other in (replace(frame, views=()), replace(frame, points=-np.abs(frame.points))):
        assert not draw_features(path, other, models.student, models.teacher)
    assert not path.exists()


def test_there_is_no_drawer_without_a_teacher_or_a_head(tiny, tmp_path):
    from tttkd_ros.segmenter.checkpoint import save_student
    from tttkd_ros.segmenter.student import Student

    assert feature_drawer(Models(tiny.model, "no-such-teacher", engine="eager")) is None
    torch.manual_seed(0)
    headless = tmp_path / "headless.safetensors"
    config = Models(tiny.model).student.config
    save_student(Student(replace(config, teacher_dim=0)), headless, {"made": "for a test"})
    assert feature_drawer(Models(headless, str(tiny.teacher), engine="eager")) is None
