"""Recipes: a YAML file with the options of `tttkd train student`."""

from dataclasses import replace
from pathlib import Path

import pytest

from tttkd_ros.classes import load_class_set
from tttkd_ros.cli import main
from tttkd_ros.paths import shipped_path
from tttkd_ros.segmenter.backbones import parse_options
from tttkd_ros.segmenter.student import StudentConfig
from tttkd_ros.training import student_training
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.recipes import FOLDER, load_recipe, recipe_of

SHIPPED = [path.stem for path in shipped_path(FOLDER).glob("*.yaml")]


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_describes_a_student(name):
    config = load_recipe(name)
    assert config.data and config.recipe == name
    StudentConfig(class_set=load_class_set(config.class_set), voxel_size=config.voxel_size, backbone=config.backbone,
                  options=parse_options(config.options), inputs=config.inputs)


def test_the_default_recipe_is_that_of_the_shipped_student():
    config = load_recipe(recipe_of(["train", "student"]))
    assert config == replace(TrainingConfig(), data=("sim:a2d2",))


def test_values_get_the_types_of_the_options(write):
    config = load_recipe(write("learning_rate: 1e-3\ndata: [bags, sim:a2d2]\nvalidation: sim:kitti\n"
                               "out: a/b.safetensors\n"
                               "augmentation: {scale: [0.9, 1], mix3d: 1}\nteacher_input: [378, 1246]\n"
                               "point_range: [-1, -2, -3, 1, 2, 3.5]"))
    assert config.learning_rate == 1e-3 and config.data == ("bags", "sim:a2d2") and config.validation == ("sim:kitti",)
    assert config.out == Path("a/b.safetensors") and config.augmentation.scale == (0.9, 1.0)
    assert config.point_range == (-1, -2, -3, 1, 2, 3.5)
    assert config.augmentation.flip_y == 0.5


@pytest.mark.parametrize(("text", "message"), [
    ("epoch: 3", "recipe.yaml: key epoch is unknown, expected some of .*epochs"),
    ("augmentation: {mix: 1}", "key augmentation.mix is unknown"), ("recipe: other", "key recipe is unknown"),
    ("epochs: many", "epochs is 'many', expected int"), ("epochs: true", "epochs is True, expected int"),
    ("learning_rate: high", "learning_rate is 'high', expected float"),
    ("epochs: 0", "epochs is 0, expected at least 1"),
    ("data: [1]", "data is 1, expected str"), ("- data", "expected a value for each key"), ("a: [", "not YAML"),
    ("epochs: 3\nbatch: 2\nepochs: 4", "recipe.yaml: 'epochs' occurs twice in one mapping, again in line 3"),
    ("augmentation: {mix3d: 0.1, mix3d: 0.2}", "'mix3d' occurs twice"),
    ("features: [colour]", "features is colour, expected"),
    ("schedule: cosine", "schedule is 'cosine', expected one of"),
    ("data: [sim:a2d2, sim:a2d2]", "expected each source once"), ("point_range: [1, 2]", "point_range is"),
])
def test_a_bad_recipe_is_refused(write, text, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(write(text))


def test_an_unknown_recipe_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="recipe 'nothing' is unknown: .*simulated"):
        load_recipe("nothing")


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--recipe", "waymo", "--batch", "2"], "waymo"), (["--batch", "2", "--recipe=mine.yaml"], "mine.yaml"),
    (["--batch", "2"], "simulated"), (["--recipe"], "simulated"),
])
def test_the_recipe_of_arguments(arguments, expected):
    assert recipe_of(arguments) == expected


def test_options_win_over_the_recipe(write, monkeypatch):
    given = []
    monkeypatch.setattr(student_training, "train_student", given.append)
    path = write("epochs: 3\nbatch: 5\naugmentation: {mix3d: 0.8}")
    monkeypatch.setattr("sys.argv", ["tttkd", "train", "student", "--recipe", path, "--batch", "7", "--data", "a", "b",
                                     "--augmentation.jitter", "0.01"])
    main()
    (config,) = given
    assert (config.epochs, config.batch, config.data) == (3, 7, ("a", "b"))
    assert (config.augmentation.mix3d, config.augmentation.jitter) == (0.8, 0.01)


def test_a_bad_recipe_ends_the_command_with_one_line(write, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tttkd", "train", "student", "--recipe", write("epoch: 3")])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err.strip()
    assert "key epoch is unknown" in error and "\n" not in error
