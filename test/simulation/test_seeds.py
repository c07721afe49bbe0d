"""No drive serves two purposes."""

from inspect import signature
from itertools import combinations

import pytest

from tttkd_ros.cli.benchmark import benchmark
from tttkd_ros.cli.demo import demo
from tttkd_ros.simulation.seeds import SEEDS, training_seeds
from tttkd_ros.training.source_training import train_image_head, train_student
from tttkd_ros.training.teacher_training import train_teacher

TRAININGS = {"teacher": train_teacher, "student": train_student, "image head": train_image_head}


def default(command, option):
    return signature(command).parameters[option].default


@pytest.mark.parametrize(("one", "other"), [*combinations(SEEDS, 2)])
def test_no_seed_has_two_purposes(one, other):
    assert not set(SEEDS[one]) & set(SEEDS[other])


@pytest.mark.parametrize(("purpose", "command"), [("demo", demo), ("benchmark", benchmark)])
def test_a_commands_default_seeds_are_in_its_range(purpose, command):
    assert set(default(command, "seeds")) <= set(SEEDS[purpose])


@pytest.mark.parametrize(("purpose", "train"), TRAININGS.items())
def test_ten_trainings_use_drives_of_their_own(purpose, train):
    used = [training_seeds(purpose, seed, default(train, "drives")) for seed in range(10)]
    assert len(set().union(*used)) == 10 * default(train, "drives")
    assert set().union(*used) <= set(SEEDS[purpose])


@pytest.mark.parametrize("train", TRAININGS.values())
@pytest.mark.parametrize(("seed", "drives"), [(0, 1_000_001), (0, 0), (10_000, 100), (-1, 100)])
def test_a_training_on_drives_of_other_purposes_is_refused(train, seed, drives, tmp_path):
    with pytest.raises(ValueError, match=f"seed is {seed} and drives is {drives}"):
        train(tmp_path / "out", seed=seed, drives=drives)
