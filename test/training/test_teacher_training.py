"""The stand-in teacher's training: part masks, a directory that the teacher's loader takes, the same weights twice."""

import numpy as np

from tttkd_ros.simulation.parts import PART
from tttkd_ros.teacher.dinov2 import load_teacher
from tttkd_ros.training.teacher_training import CELL, _majority, train_teacher

TINY = dict(drives=1, images_per_drive=3, steps=20, batch=2, width=24, layers=1, heads=2)


def test_a_cell_takes_the_part_that_most_of_its_pixels_show():
    parts = np.full((2 * CELL, 2 * CELL), PART["road"], np.uint8)
    parts[:CELL, :CELL] = PART["wall"]
    parts[0, -1] = PART["pole"]
    np.testing.assert_array_equal(_majority(parts), [[PART["wall"], PART["road"]], [PART["road"], PART["road"]]])


def test_it_writes_a_teacher_that_loads(tmp_path):
    train_teacher(tmp_path / "teacher", **TINY)
    teacher = load_teacher(tmp_path / "teacher", input_size=(28, 56), engine="eager")
    features = teacher([np.zeros((40, 80, 3), np.uint8)])
    assert features.shape == (1, 2, 4, 24)
    assert not (tmp_path / "teacher" / "training.pt").exists()


def test_the_same_seed_gives_the_same_weights(tmp_path):
    for name in ("a", "b"):
        train_teacher(tmp_path / name, **TINY)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second
