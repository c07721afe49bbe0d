"""No drive serves two purposes."""

from inspect import signature
from itertools import combinations

import pytest

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.cli.benchmark import benchmark
from tttkd_ros.cli.demo import demo
from tttkd_ros.datasets.source import open_source
from tttkd_ros.paths import TEACHER, shipped_path
from tttkd_ros.simulation.seeds import SEEDS, training_seeds
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.image_head_training import train_image_head
from tttkd_ros.training.recipes import load_recipe
from tttkd_ros.training.student_training import train_student
from tttkd_ros.training.teacher_training import train_teacher

DRIVES = {"teacher": 1200, "student": 100, "image head": 60}  # of each training by default


def default(command, option):
    return signature(command).parameters[option].default


@pytest.mark.parametrize(("one", "other"), [*combinations(SEEDS, 2)])
def test_no_seed_has_two_purposes(one, other):
    assert not set(SEEDS[one]) & set(SEEDS[other])


@pytest.mark.parametrize(("purpose", "command"), [("demo", demo), ("benchmark", benchmark)])
def test_a_commands_default_seeds_are_in_its_range(purpose, command):
    assert set(default(command, "seeds")) <= set(SEEDS[purpose])


def test_the_trainings_have_these_defaults():
    assert default(train_teacher, "drives") == DRIVES["teacher"]
    assert default(train_image_head, "data") == (f"sim:a2d2:{DRIVES['image head']}x5",)
    (source,) = load_recipe("simulated").data
    assert len(open_source(source, OUTDOOR)) == DRIVES["student"]


@pytest.mark.parametrize(("purpose", "drives"), DRIVES.items())
def test_ten_trainings_use_drives_of_their_own(purpose, drives):
    used = [training_seeds(purpose, seed, drives) for seed in range(10)]
    assert len(set().union(*used)) == 10 * drives
    assert set().union(*used) <= set(SEEDS[purpose])


def train(purpose, out, seed, drives):
    data = (f"sim:a2d2:{drives}x1",)
    if purpose == "teacher":
        train_teacher(out, seed=seed, drives=drives)
    elif purpose == "student":
        train_student(TrainingConfig(out=out, data=data, seed=seed, teacher=shipped_path(TEACHER)))
    else:
        train_image_head(out, data=data, seed=seed, teacher=shipped_path(TEACHER))


@pytest.mark.parametrize("purpose", DRIVES)
@pytest.mark.parametrize(("seed", "drives"), [(0, 1_000_001), (10_000, 100)])
def test_a_training_on_drives_of_other_purposes_is_refused(purpose, seed, drives, tmp_path):
    with pytest.raises(ValueError, match=f"seed is {seed} and drives is {drives}"):
        train(purpose, tmp_path / "out", seed, drives)
