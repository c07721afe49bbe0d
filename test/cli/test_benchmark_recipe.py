"""`tttkd benchmark --recipe`: a paper's table on small folders in the formats of A2D2 and SemanticKITTI."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from outdoor_folders import write_a2d2, write_semantickitti

from tttkd_ros.cli.benchmark import benchmark
from tttkd_ros.evaluation import trials
from tttkd_ros.paths import shipped_path
from tttkd_ros.segmenter.checkpoint import describe
from tttkd_ros.training import image_head_training, student_training
from tttkd_ros.training.benchmark_recipe import load_benchmark
from tttkd_ros.training.recipes import FOLDER

ROWS = {"Source-Only": "source-only", "Joint-Train": "frozen", "TENT": "tent, stride 1", "xMUDA": "xmuda, stride 1",
        "MM-TTA": "mm-tta, stride 1", "TTT-KD": "ttt-kd, lr 0.1, bn 0.0, steps 2",
        "TTT-KD-O": "ttt-kd-o, stride 1, lr 0.1, bn 0.0, steps 1, rotations 1", "Oracle": "oracle"}
MODELS = ["image_head", "joint", "oracle", "source_only"]
TRAINING = """
data: ["a2d2:data/a2d2"]
validation: ["semantickitti:data/semantickitti:07"]
teacher: {teacher}
teacher_input: [28, 56]
options: [levels=2]
voxel_size: 0.4
steps: 2
batch: 2
workers: 0
accelerator: cpu
"""


def cloud(seed: int, columns: int) -> np.ndarray:
    """400 points ahead, in view of both cameras."""
    generator = np.random.default_rng(seed)
    ahead = generator.uniform(4, 12, 400)
    sides = ahead[:, None] * generator.uniform(-0.3, 0.3, (400, 2))
    return np.column_stack([ahead, sides, generator.random(400)])[:, :columns]


@dataclass
class World:
    """A working folder with data/ and recipes; out/ holds a finished benchmark."""

    folder: Path

    def edit(self, name: str, old: str, new: str) -> None:
        """Change a recipe: "outdoor", or that of its training."""
        path = self.folder / f"{name}.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def run(out: str, **options) -> None:
    benchmark(Path(out), **{"recipe": "outdoor.yaml", "engine": "eager", "jobs": 1} | options)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    write_a2d2(world.folder / "data" / "a2d2", "20180807_145028", [cloud(seed, 3) for seed in range(3)])
    for sequence in ("00", "07", "08"):
        sweeps = [cloud(seed + 10 * int(sequence), 4) for seed in range(3)]
        write_semantickitti(world.folder / "data" / "semantickitti", sequence, sweeps,
                            [np.where(sweep[:, 1] > 0, 10, 40) for sweep in sweeps],
                            "16 0 16 0 0 16 8 0 0 0 1 0", (16, 32))
    (world.folder / "training.yaml").write_text(TRAINING.format(teacher=tiny.teacher))
    shutil.copy(shipped_path("config/benchmarks/outdoor.yaml"), world.folder)
    for old, new in (("training: outdoor", "training: training.yaml"), (":00-06,09-10", ":00"),
                     ("{points: 16, steps: 5000}", "{points: 16, steps: 5, batch: 32}"), ("steps: 25", "steps: 2")):
        world.edit("outdoor", old, new)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world.folder)
        patch.setattr(trials, "_on_this_machine", inline)
        run("out")
    return world


def inline(jobs, processes):
    return (trials._run(job) for job in jobs)


@pytest.fixture
def world(finished, tmp_path, monkeypatch):
    """A copy of the finished one, which is the current folder."""
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trials, "_on_this_machine", inline)
    return World(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Results and tables. The metadata of a safetensors file have no order, so its bytes may differ."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.suffix in (".md", ".json", ".npz") and "timing" not in path.name and path.name != "inputs.json"}


def test_every_row_stands_beside_its_published_figure(world):
    results = json.loads(Path("out/results.json").read_text())
    assert {row["row"]: row["run"] for row in results["published"]} == ROWS
    (drive,) = results["shifts"].values()
    runs = {run["run"]: run["summaries"][0] for run in drive["runs"]}
    for row in results["published"]:
        assert row["seen"] == runs[row["run"]]["miou_visible"] and runs[row["run"]]["sweeps_with_truth"] == 3
    assert {name: runs[ROWS[name]]["steps_accepted"] for name in ("Joint-Train", "TENT", "xMUDA", "TTT-KD-O")} == {
        "Joint-Train": 0, "TENT": 3, "xMUDA": 3, "TTT-KD-O": 3}
    assert results["command"] == "tttkd benchmark results --recipe outdoor.yaml --engine eager"
    line = next(line for line in Path("out/table.md").read_text().splitlines() if line.startswith("| TTT-KD-O | "))
    assert line.split(" | ")[2] == "52.0" and line.endswith(f"{ROWS['TTT-KD-O']} |")


def test_the_students_differ_as_the_table_says(world):
    assert sorted(path.stem for path in Path("out/models").glob("*.safetensors")) == MODELS
    assert not Path("out/models/frames").exists()
    joint, alone, oracle = (describe(f"out/models/{name}.safetensors")[1]
                            for name in ("joint", "source_only", "oracle"))
    assert (joint["distillation"], alone["distillation"]) == ("1.0", "0.0")
    assert (joint["sources"], oracle["sources"]) == ("a2d2:data/a2d2", "semantickitti:data/semantickitti:00")


def test_a_second_run_computes_nothing_and_prints_the_table(world, monkeypatch, capsys):
    before = contents(world.folder / "out")
    shutil.rmtree("data/a2d2")  # nobody needs it any more
    for module, name in ((student_training, "train_student"), (image_head_training, "train_image_head"),
                         (trials, "_run")):
        monkeypatch.setattr(module, name, None)
    run("out")
    assert contents(world.folder / "out") == before
    assert "8 of 8 runs on 1 drives are finished, 0 to run" in (shown := capsys.readouterr().out) and "52.0" in shown


def test_an_interrupted_benchmark_continues_to_the_same_files(world, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    ran, run_job = [], trials._run

    def counted(job):
        (method,) = (run.method for run in job.runs)
        ran.append(method)
        if ran.count("xmuda") == 1 and method == "xmuda":
            raise KeyboardInterrupt
        return run_job(job)

    shutil.copytree("out/models", "again/models", ignore=shutil.ignore_patterns("joint*", "image_head*"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(image_head_training, "train_image_head", interrupted)
        run("again")
    monkeypatch.setattr(student_training, "train_student", None)  # all are trained
    monkeypatch.setattr(trials, "_run", counted)
    with pytest.raises(KeyboardInterrupt):
        run("again")
    run("again")
    assert ran == ["source-only", "frozen", "tent", "xmuda", "xmuda", "mm-tta", "ttt-kd", "ttt-kd-o", "oracle"]
    assert contents(world.folder / "again") == contents(world.folder / "out")


def test_all_that_is_missing_is_said_before_anything_runs(world):
    shutil.rmtree("data")
    world.edit("training", "teacher: ", "teacher: not/")
    with pytest.raises(ValueError, match="data sets are missing, expected semantickitti in data/semantickitti, a2d2 in "
                                         "data/a2d2: .* --data-folder semantickitti=FOLDER a2d2=FOLDER; no teacher"):
        run("new")
    assert not Path("new").exists()


def test_a_missing_sequence_is_said_before_anything_runs(world):
    shutil.rmtree("data/semantickitti/sequences/08")
    with pytest.raises(ValueError, match="there is no scene '08', only 00, 07"):
        run("new")
    assert not Path("new").exists()


def test_data_may_be_elsewhere(world, monkeypatch):
    Path("data").rename("disk")
    given = []
    monkeypatch.setattr(student_training, "train_student", lambda config: given.append(config) or 1 / 0)
    with pytest.raises(ZeroDivisionError):  # all was found
        run("new", data_folder=("a2d2=disk/a2d2", "semantickitti=disk/semantickitti"))
    assert (given[0].data, given[0].validation) == (("a2d2:disk/a2d2",), ("semantickitti:disk/semantickitti:07",))


@pytest.mark.parametrize(("recipe", "old", "new", "words"), [
    ("training", "voxel_size: 0.4", "voxel_size: 0.5", r"source_only.safetensors .* \(voxel_size: 0.4 then, 0.5 now\)"),
    ("outdoor", "points: 16", "points: 8", r"image_head.safetensors .* \(points: 16 then, 8 now\)"),
])
def test_models_of_other_settings_are_refused_by_name(world, recipe, old, new, words):
    world.edit(recipe, old, new)
    with pytest.raises(ValueError, match=words):
        run("out")


def test_a_drive_without_labels_is_refused(world):
    shutil.rmtree("data/semantickitti/sequences/08/labels")
    with pytest.raises(ValueError, match="semantickitti-08 has no labels: a benchmark needs drives with truth"):
        run("out")


@pytest.mark.parametrize(("options", "words"), [
    ({"stride": (1,)}, "--stride is given, but the recipe decides it"),
    ({"recipe": "indoor"}, "recipe 'indoor' is unknown: .* outdoor"),
    ({"data_folder": ("a2d2",)}, "--data-folder 'a2d2': expected KIND=FOLDER"),
    ({"data_folder": ("waymo=disk",)}, "no source of the recipe .* is in data/waymo"),
    ({"recipe": None, "data_folder": ("a2d2=disk",)}, "simulated shifts need no data"),
])
def test_options_that_do_not_fit_are_refused(world, options, words):
    with pytest.raises(ValueError, match=words):
        run("new", **options)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("rotations: 4\n", "rotation: 4\n", "key rotation is unknown"),
    ("rotations: 4\n", "rotations: 4\nrotations: 1\n", "'rotations' occurs twice"),
    ("  TENT:", "  Oracle:", "'Oracle' occurs twice"),
    ("method: tent", "method: tint", "method is 'tint'"),
    ("method: frozen, ", "method: dua, ", "no row has the method frozen"),
    ("method: tent, ", "method: frozen, ", "two rows are frozen"),
    ("target:", "#", "target is missing"),
    ("published: 36.6", "figure: 36.6", "key rows.TENT.figure is unknown"),
])
def test_a_bad_recipe_is_refused(world, old, new, words):
    world.edit("outdoor", old, new)
    with pytest.raises(ValueError, match=words):
        run("new")


def test_the_shipped_recipe_has_the_paper_s_settings():
    recipe, training = load_benchmark("outdoor", {"a2d2": "/disk/a2d2"})
    assert training.data[0].startswith("a2d2:/disk/a2d2:2018") and training.recipe == "outdoor"
    assert (shipped_path(FOLDER) / f"{recipe.training}.yaml").is_file()
    runs = {name: run.effective_config for name, run in recipe.runs.items()}
    assert (runs["TTT-KD"].steps, runs["TTT-KD"].learning_rate, runs["TTT-KD-O"].steps) == (25, 0.1, 1)
    for config in (runs["TTT-KD"], runs["TTT-KD-O"]):
        assert (config.bn_momentum, config.crop, config.guard, config.seconds) == (0, 0, False, 0)
