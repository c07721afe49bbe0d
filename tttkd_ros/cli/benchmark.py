"""`tttkd benchmark`: compare methods on simulated shifts, or compute a paper's table, in parallel and resumable."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.cli.evaluate import ControlName, MethodName
from tttkd_ros.methods import own_students
from tttkd_ros.simulation.seeds import SEEDS
from tttkd_ros.simulation.shifts import GROUPS, SHIFTS
from tttkd_ros.subprocesses import interruptible

if TYPE_CHECKING:
    from tttkd_ros.evaluation.benchmark import Benchmark
    from tttkd_ros.evaluation.result import Result
    from tttkd_ros.evaluation.store import Store

DEFAULT_METHODS = ("frozen", "tent", "dua", "adacontrast", "xmuda", "mm-tta", "ttt-kd-o")
WITH_RECIPE = ("out", "recipe", "data_folder", "engine", "device", "jobs", "ray")  # options beside a recipe


@interruptible()
def benchmark(
    out: Annotated[Path, tyro.conf.Positional], *, recipe: str | None = None, data_folder: tuple[str, ...] = (),
    shift: tuple[Literal[tuple(SHIFTS)], ...] = tuple(SHIFTS),
    method: tuple[MethodName, ...] = DEFAULT_METHODS, seeds: tuple[int, ...] = tuple(SEEDS["benchmark"][:5]),
    sweeps: int = 300, control: tuple[ControlName, ...] = (), stride: tuple[int, ...] = (TTTConfig.stride,),
    learning_rate: tuple[float, ...] = (TTTConfig.learning_rate,),
    bn_momentum: tuple[float, ...] = (TTTConfig.bn_momentum,), steps: tuple[int, ...] = (TTTConfig.steps,),
    train_rotations: tuple[int, ...] = (TTTConfig.rotations,), offline_steps: tuple[int, ...] = (25,),
    rotations: int = 1, guard: bool = TTTConfig.guard,
    model: Path | None = None, source_only: Path | None = None, distilled: Path | None = None,
    oracle: Path | None = None, teacher: str | None = None, engine: str = "auto", device: str = "cpu",
    jobs: int = os.cpu_count() or 1, ray: str | None = None,
) -> None:
    """Compare methods on simulated drives under every target shift. Print mean and spread over the seeds.

    With a recipe, compute a paper's table on recorded data instead: train the models that are missing, evaluate every
    row, and print the paper's figures beside them.

    Every method runs, lossless, on one drive for each shift and seed. Finished models and runs are kept in `out`. The
    same command continues an interrupted benchmark, and with more shifts, seeds or methods it runs only what is new.
    Runs of another version, commit or uncommitted code are run again.

    Example: `tttkd benchmark results --shift fog rain --seeds 7001 7002 --method tent ttt-kd-o`.

    Args:
        out: folder for table.md, results.json, every finished run, and the models of a recipe.
        recipe: name of a file in config/benchmarks/, or path of one. It decides all that other options would.
        data_folder: where the recipe's data sets are, KIND=FOLDER each; data/KIND by default.
        shift: shifts to run, all by default. `tttkd simulate --help` describes each.
        method: methods to compare, as in `tttkd evaluate --help`. Frozen, the student without adaptation, always runs.
        seeds: of the drives.
        sweeps: length of each drive.
        control: also run ttt-kd-o and ttt-kd with these controls, see `tttkd evaluate --help`. Frozen and the runs of
            `--control no-image --bn-momentum 0 0.005` show, at each stride, what images and statistics contribute.
        stride: online methods take a step on every stride-th sweep. Several values give a run each.
        learning_rate: of ttt-kd-o and ttt-kd. Several values give a run each.
        bn_momentum: minimum momentum of the BatchNorm statistics in ttt-kd-o and ttt-kd. 0 freezes them, as in the
            paper. Several values give a run each.
        steps: gradient steps of ttt-kd-o on each training sweep. Several values give a run each.
        train_rotations: of the cloud, on which ttt-kd-o and ttt-kd take their steps in turn. Several values give a run
            each.
        offline_steps: gradient steps of ttt-kd on each sweep. Several values give a run each.
        rotations: about the vertical axis, over which logits are averaged.
        guard: take a step only if the alignment of image and sweep is good. Controls run without, so
            --no-guard compares like with like.
        model: student checkpoint, the shipped one by default.
        source_only: checkpoint of a student trained without the teacher, to run without adaptation beside the others.
        distilled: likewise, of a student distilled on unlabelled sweeps of source and target (`tttkd train student
            --distil-first sim:a2d2 sim:kitti`).
        oracle: likewise, of a student trained on the target's labels (`tttkd train student --data sim:kitti`).
        teacher: teacher folder or hub name, the shipped one by default.
        engine: what runs the teacher. auto takes the fastest engine that agrees with eager.
        device: cpu or cuda.
        jobs: number of processes, each with one computing thread.
        ray: address of a Ray cluster to run the trials on ("auto" for the one this machine belongs to).
    """
    options = dict(locals())  # before there are other local names
    from rich.console import Console

    from tttkd_ros.cli.benchmark_recipe import recipe_benchmark
    from tttkd_ros.evaluation.leaderboard_tables import content, markdown, printed
    from tttkd_ros.evaluation.published import published_content, published_sheet
    from tttkd_ros.evaluation.report import write_json
    from tttkd_ros.evaluation.store import Store
    from tttkd_ros.evaluation.trials import benchmark_inputs, check
    from tttkd_ros.files import write_whole

    if jobs < 1:
        raise ValueError(f"jobs is {jobs}, expected at least 1")
    if recipe is None:
        if data_folder:
            raise ValueError(f"--data-folder is {' '.join(data_folder)}, but simulated shifts need no data: add "
                             "--recipe, or leave it out")
        found = _shift_benchmark(options)
    else:
        _refuse_what_a_recipe_decides(options)
        found = recipe_benchmark(out, recipe, data_folder, engine, device)
    check(found.parts, found.setup)  # before the folder is made, which is bound to its inputs
    inputs = benchmark_inputs(found.parts, found.setup)
    store = Store(out if recipe is None else out / "evaluation", inputs)
    board = found.board(_run(found, store, jobs, ray))
    command = _command(options)
    sheets = [published_sheet(board, found.published)] if found.published else []
    figures = {"published": published_content(board, found.published)} if found.published else {}
    write_json(out / "results.json", content(board, command, inputs["code"]) | figures)
    write_whole(out / "table.md", markdown(board, command, inputs["code"], sheets).encode())
    for table in (*(sheet.rich() for sheet in sheets), *printed(board)):
        Console().print(table)


def _shift_benchmark(options: Mapping[str, Any]) -> Benchmark:
    """Describe the benchmark of simulated shifts. options: of the command."""
    from tttkd_ros.datasets.parts import SimulatedPart
    from tttkd_ros.evaluation.benchmark import Benchmark
    from tttkd_ros.evaluation.models import Models
    from tttkd_ros.evaluation.replay import RunConfig
    from tttkd_ros.evaluation.runs import plan
    from tttkd_ros.evaluation.trials import Setup
    from tttkd_ros.simulation.drive import PERIOD

    shift, seeds, sweeps = options["shift"], options["seeds"], options["sweeps"]
    if sweeps < 1:
        raise ValueError(f"sweeps is {sweeps}, expected at least 1")
    for name, values in (("shift", shift), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is {values}: expected at least one, and each once")
    if min(seeds) < 0:
        raise ValueError(f"seeds is {seeds}: expected none below 0")
    checkpoints = own_students(**{name: options[name] for name in ("source_only", "distilled", "oracle")})
    models = Models(options["model"], options["teacher"], own_students=checkpoints, engine=options["engine"],
                    device=options["device"])
    student = models.student.config
    common = RunConfig("ttt-kd-o", TTTConfig(guard=options["guard"]), rotations=options["rotations"],
                       injects=bool(student.injection))
    runs = plan(
        options["method"], common, strides=options["stride"], learning_rates=options["learning_rate"],
        bn_momenta=options["bn_momentum"], steps=options["steps"], rotations=options["train_rotations"],
        offline_steps=options["offline_steps"], controls=options["control"], own_students=checkpoints,
    )  # fmt: skip
    setup = Setup(tuple(runs), options["model"], options["teacher"], tuple(checkpoints.items()), options["engine"],
                  options["device"])
    # Seed by seed, so that an interrupted benchmark has run all shifts equally often.
    drives = {(name, seed): SimulatedPart(name, seed, sweeps, student.class_set, shifted=True, period=PERIOD)
              for seed in seeds for name in shift}
    return Benchmark({part.name: part for part in drives.values()}, setup,
                     {cell: [part.name] for cell, part in drives.items()},
                     {group: list(shifts) for group, shifts in GROUPS.items()})


def _refuse_what_a_recipe_decides(options: Mapping[str, object]) -> None:
    for name, parameter in signature(benchmark).parameters.items():
        if name not in WITH_RECIPE and options[name] != parameter.default:
            raise ValueError(f"--{name.replace('_', '-')} is given, but the recipe decides it: leave it out, or change "
                             "a copy of the recipe")


def _run(found: Benchmark, store: Store, jobs: int, ray: str | None) -> dict[str, list[Result]]:
    """Run the trials and show how many runs are finished and the time left."""
    from rich.console import Console
    from rich.progress import Progress

    from tttkd_ros.evaluation.trials import run_trials

    # A run takes minutes, so the time left is estimated from all of them, not from rich's last 30 seconds.
    with Progress(speed_estimate_period=float("inf")) as bar:
        task = bar.add_task("runs", total=None)

        def start(missing: int) -> None:
            drives, runs = len(found.parts), len(found.parts) * len(found.setup.runs)
            bar.console.print(f"{runs - missing} of {runs} runs on {drives} drives are finished, {missing} to run",
                              highlight=False)
            bar.update(task, total=missing)
            bar.advance(task, 0)  # so that the estimate starts here, not when the first run ends

        def finish(trial: str, runs: int) -> None:
            bar.advance(task, runs)
            if not bar.console.is_terminal:  # a log shows no bar
                (state,) = bar.tasks
                left = timedelta(seconds=state.time_remaining)
                bar.console.print(f"{trial}: {state.completed} of {state.total} runs, {left} left", highlight=False)

        try:
            return run_trials(found.parts, found.setup, store, jobs, ray=ray, on_start=start, on_runs=finish)
        except KeyboardInterrupt:
            message = f"finished runs are in {store.folder}: the same command continues from there"
            Console(stderr=True).print(message, markup=False)
            raise


def _command(options: Mapping[str, object]) -> str:
    """Return the command that computes the same tables. Options at their default are left out."""
    words = ["tttkd", "benchmark", "results"]
    for name, parameter in signature(benchmark).parameters.items():
        if name not in ("out", "jobs", "ray") and options[name] != parameter.default:
            value, option = options[name], name.replace("_", "-")
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--no-{option}"] if value is False else [f"--{option}", *map(str, values)]
    return shlex.join(words)
