"""The benchmark that a recipe describes, after training the models that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tttkd_ros.classes import load_class_set
from tttkd_ros.datasets.registry import DATASETS
from tttkd_ros.datasets.source import open_source
from tttkd_ros.evaluation.benchmark import Benchmark
from tttkd_ros.evaluation.inputs import unique_names
from tttkd_ros.evaluation.part_drives import PURPOSE
from tttkd_ros.evaluation.published import PublishedRow
from tttkd_ros.evaluation.trials import Setup
from tttkd_ros.methods import FROZEN
from tttkd_ros.training.benchmark_models import BenchmarkModels
from tttkd_ros.training.benchmark_recipe import DATA, load_benchmark, moved, parse_folders


def recipe_benchmark(out: Path, name: str, data_folders: Sequence[str], engine: str, device: str) -> Benchmark:
    """Check what a recipe needs, train the models that are missing into `out`/models, and describe its benchmark.

    Raises ValueError before anything is trained if data or the teacher are missing; else as `train_student`.
    """
    recipe, training = load_benchmark(name, parse_folders(data_folders))
    models = BenchmarkModels(recipe, training, out.resolve() / "models")
    models.check()
    models.train_missing()

    classes = load_class_set(training.class_set)
    # Absolute, because the workers of a cluster have another working folder.
    here = {kind: str(Path(DATA, kind).resolve()) for kind in DATASETS}
    domains = {text: open_source(text, classes, purpose=PURPOSE) for text in moved(recipe.evaluation, here)}
    drives = [part for parts in domains.values() for part in parts]
    names = unique_names([(part.name, part.place) for part in drives])
    cells, rest = {}, iter(names)
    for text, parts in domains.items():
        members = [next(rest) for _ in parts]
        cells[members[0] if len(members) == 1 else text, None] = members
    runs = {row: replace(run, image_head=models.image_head) for row, run in recipe.runs.items()}
    own = {method: config.out for method, config in models.students.items() if method != FROZEN}
    setup = Setup(tuple(runs.values()), models.students[FROZEN].out, str(training.teacher), tuple(own.items()), engine,
                  device)
    published = [PublishedRow(row, run.title, recipe.rows[row].published) for row, run in runs.items()]
    return Benchmark(dict(zip(names, drives, strict=True)), setup, cells, {"target": [shift for shift, _ in cells]},
                     published)
