"""Recipes of benchmarks: the table of a paper as a YAML file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tttkd_ros.adaptation.config import TTTConfig, paper_config
from tttkd_ros.datasets.registry import DATASETS
from tttkd_ros.evaluation.replay import RunConfig
from tttkd_ros.methods import FROZEN
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.recipes import load_recipe, read_recipe

FOLDER = "config/benchmarks"
DATA = "data"  # where recipes look for data sets


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        method: as for `tttkd evaluate`. The rows source-only and oracle have students of their own.
        published: the paper's mIoU in per cent, of the points that a camera sees; NaN if it has none.
        steps: gradient steps on a sweep, of ttt-kd-o and ttt-kd.
        train_rotations: of the cloud, that ttt-kd-o and ttt-kd take their steps on in turn.
    """

    method: str = ""
    published: float = math.nan
    steps: int = 1
    train_rotations: int = 1


@dataclass(frozen=True)
class HeadTraining:
    """Options of `tttkd train image-head`."""

    points: int = 512
    steps: int = 1000
    batch: int = 4096


@dataclass(frozen=True)
class BenchmarkRecipe:
    """A table to compute. Raises ValueError for bad values.

    Attributes:
        training: recipe of the student (Joint-Train). Source-Only has its distillation off.
        target: labelled sources that the oracle is trained on instead.
        evaluation: labelled sources that the rows are computed on. The drives of each are one domain.
        image_head: training of the 2D branch of xMUDA and MM-TTA, on the student's data.
        stride: online methods take a step on every stride-th sweep.
        learning_rate: of ttt-kd-o and ttt-kd.
        rotations: about the vertical axis, over which logits are averaged.
        rows: name -> row.
    """

    training: str = ""
    target: tuple[str, ...] = ()
    evaluation: tuple[str, ...] = ()
    image_head: HeadTraining = field(default_factory=HeadTraining)
    stride: int = 1
    learning_rate: float = 0.1
    rotations: int = 1
    rows: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self):
        if not self.rows:  # the defaults, before a file fills them
            return
        for name in ("training", "evaluation"):
            if not getattr(self, name):
                raise ValueError(f"{name} is missing")
        runs = self.runs
        if FROZEN not in self.methods:
            raise ValueError(f"no row has the method {FROZEN}, which the others are compared with: add it")
        if "distilled" in self.methods:
            raise ValueError("a row has the method distilled, which a recipe does not train: leave it out")
        if "oracle" in self.methods and not self.target:
            raise ValueError("target is missing, which the oracle is trained on")
        titles = [run.title for run in runs.values()]
        if twice := [title for title in titles if titles.count(title) > 1]:
            raise ValueError(f"two rows are {twice[0]}: leave one out")

    @property
    def methods(self) -> set[str]:
        return {row.method for row in self.rows.values()}

    @property
    def runs(self) -> dict[str, RunConfig]:
        """Name of a row -> its run, with the paper's algorithm."""
        return {name: RunConfig(row.method, self._config(row), rotations=self.rotations)
                for name, row in self.rows.items()}

    def _config(self, row: Row) -> TTTConfig:
        return paper_config(TTTConfig(stride=self.stride, learning_rate=self.learning_rate, steps=row.steps,
                                      rotations=row.train_rotations))


def load_benchmark(name: str, folders: Mapping[str, str]) -> tuple[BenchmarkRecipe, TrainingConfig]:
    """Read a benchmark's recipe, by its name in `FOLDER` or by its path, and the recipe of its student.

    folders: kind of data set -> where it is, instead of data/KIND. Raises ValueError for a bad recipe, or a folder that
    no source has.
    """
    recipe = read_recipe(name, FOLDER, BenchmarkRecipe())
    if not recipe.rows:
        raise ValueError(f"recipe {name}: rows is missing")
    training = load_recipe(recipe.training)
    sources = (*training.data, *training.validation, *recipe.target, *recipe.evaluation)
    for kind, folder in folders.items():
        if moved(sources, {kind: folder}) == sources:
            raise ValueError(f"--data-folder {kind}={folder}: no source of the recipe {name} is in {DATA}/{kind}")
    return (replace(recipe, target=moved(recipe.target, folders), evaluation=moved(recipe.evaluation, folders)),
            replace(training, data=moved(training.data, folders), validation=moved(training.validation, folders)))


def parse_folders(texts: Sequence[str]) -> dict[str, str]:
    """Parse KIND=FOLDER texts. Raises ValueError for other texts and kinds."""
    folders = {}
    for text in texts:
        kind, equals, folder = text.partition("=")
        if kind not in DATASETS or not folder or kind in folders:
            raise ValueError(f"--data-folder {text!r}: expected KIND=FOLDER, each once, KIND one of "
                             f"{', '.join(DATASETS)}")
        folders[kind] = folder
    return folders


def moved(sources: Sequence[str], folders: Mapping[str, str]) -> tuple[str, ...]:
    """The sources with other folders instead of data/KIND."""
    for kind, folder in folders.items():
        pattern = re.compile(rf"(?<=[:@]){DATA}/{kind}(?=[/:]|$)")
        sources = [pattern.sub(lambda _, folder=folder: folder, source) for source in sources]
    return tuple(sources)
