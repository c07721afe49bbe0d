"""The stand-in teacher's training: part masks, a directory that can be loaded, repeatable weights."""

import numpy as np

from tttkd_ros.simulation.parts import PART
from tttkd_ros.teacher.foundation_model import load_teacher
from tttkd_ros.training.teacher_training import CELL, _majority, train_teacher

TINY = dict(drives=1, images_per_drive=2, steps=5, batch=2, width=24, layers=1, heads=2)


def test_a_cell_has_the_part_of_most_of_its_pixels():
    parts = np.full((2 * CELL, 2 * CELL), PART["road"], np.uint8)
    parts[:CELL, :CELL] = PART["wall"]
    parts[0, -1] = PART["pole"]
    np.testing.assert_array_equal(_majority(parts), [[PART["wall"], PART["road"]], [PART["road"], PART["road"]]])


def test_the_same_seed_gives_the_same_teacher_and_it_loads(tmp_path):
    for name in ("first", "second"):
        train_teacher(tmp_path / name, **TINY)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second
    teacher = load_teacher(tmp_path / "first", input_size=(28, 56), engine="eager")
    assert teacher([np.zeros((40, 80, 3), np.uint8)]).shape == (1, 2, 4, 24)
    assert not (tmp_path / "first" / "training.pt").exists()
