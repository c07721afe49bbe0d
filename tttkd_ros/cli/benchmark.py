"""`tttkd benchmark`: compare methods on simulated shifts, in parallel and resumable."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.cli.evaluate import ControlName, MethodName
from tttkd_ros.methods import own_students
from tttkd_ros.simulation.seeds import SEEDS
from tttkd_ros.simulation.shifts import GROUPS, SHIFTS

if TYPE_CHECKING:
    from tttkd_ros.evaluation.result import Result
    from tttkd_ros.evaluation.store import Store
    from tttkd_ros.evaluation.trials import Setup, Trial

DEFAULT_METHODS = ("frozen", "tent", "dua", "adacontrast", "xmuda", "mm-tta", "ttt-kd-o")


def benchmark(
    out: Annotated[Path, tyro.conf.Positional], *, shift: tuple[Literal[tuple(SHIFTS)], ...] = tuple(SHIFTS),
    method: tuple[MethodName, ...] = DEFAULT_METHODS, seeds: tuple[int, ...] = tuple(SEEDS["benchmark"][:5]),
    sweeps: int = 300, control: tuple[ControlName, ...] = (), stride: tuple[int, ...] = (TTTConfig.stride,),
    learning_rate: tuple[float, ...] = (TTTConfig.learning_rate,),
    bn_momentum: tuple[float, ...] = (TTTConfig.bn_momentum,), steps: tuple[int, ...] = (TTTConfig.steps,),
    train_rotations: tuple[int, ...] = (TTTConfig.rotations,), offline_steps: tuple[int, ...] = (25,),
    rotations: int = 1, guard: bool = TTTConfig.guard,
    model: Path | None = None, source_only: Path | None = None, distilled: Path | None = None,
    oracle: Path | None = None, teacher: str | None = None, engine: str = "auto",
    jobs: int = os.cpu_count() or 1, ray: str | None = None,
) -> None:
    """Compare methods on simulated drives under every target shift. Print mean and spread over the seeds.

    A trial is a shift and a seed: one simulated drive, on which every method runs, lossless. Finished runs are kept in
    `out`. The same command continues an interrupted benchmark, and with more shifts, seeds or methods it runs only what
    is new. Runs of another version, commit or uncommitted code are run again.

    Example: `tttkd benchmark results --shift fog rain --seeds 7001 7002 --method tent ttt-kd-o`.

    Args:
        out: folder for table.md, results.json and every finished run.
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
        jobs: number of processes, each with one computing thread.
        ray: address of a Ray cluster to run the trials on ("auto" for the one this machine belongs to).
    """
    options = dict(locals())  # before there are other local names
    from rich.console import Console

    from tttkd_ros.evaluation.leaderboard import Leaderboard
    from tttkd_ros.evaluation.leaderboard_tables import content, markdown, printed
    from tttkd_ros.evaluation.replay import RunConfig
    from tttkd_ros.evaluation.report import write_json
    from tttkd_ros.evaluation.runs import plan
    from tttkd_ros.evaluation.store import Store
    from tttkd_ros.evaluation.trials import Setup, Trial, benchmark_inputs, check
    from tttkd_ros.files import write_whole

    for name, value in (("jobs", jobs), ("sweeps", sweeps)):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    for name, values in (("shift", shift), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is {values}: expected at least one, and each once")
    if min(seeds) < 0:
        raise ValueError(f"seeds is {seeds}: expected none below 0")
    common = RunConfig("ttt-kd-o", TTTConfig(guard=guard), rotations=rotations)
    checkpoints = own_students(source_only=source_only, distilled=distilled, oracle=oracle)
    runs = plan(
        method, common, strides=stride, learning_rates=learning_rate, bn_momenta=bn_momentum, steps=steps,
        rotations=train_rotations, offline_steps=offline_steps,
        controls=control, own_students=checkpoints,
    )  # fmt: skip
    setup = Setup(tuple(runs), sweeps, model, teacher, tuple(checkpoints.items()), engine)
    # Seed by seed, so that an interrupted benchmark has run all shifts equally often.
    trials = [Trial(name, seed) for seed in seeds for name in shift]
    check(trials, setup)  # before the folder is made, which is bound to its inputs
    inputs = benchmark_inputs(setup)
    store = Store(out, inputs)
    results = _run(trials, setup, store, jobs, ray)
    board = Leaderboard(results, {group: list(shifts) for group, shifts in GROUPS.items()})
    command = _command(options)
    write_json(out / "results.json", content(board, command, inputs["code"]))
    write_whole(out / "table.md", markdown(board, command, inputs["code"]).encode())
    for table in printed(board):
        Console().print(table)


def _run(trials: Sequence[Trial], setup: Setup, store: Store, jobs: int, ray: str | None) -> dict[Trial, list[Result]]:
    """Run the trials and show how many are finished and the time left."""
    from rich.console import Console
    from rich.progress import Progress

    from tttkd_ros.evaluation.trials import run_trials

    # A trial takes minutes, so the time left is estimated from all of them, not from rich's last 30 seconds.
    with Progress(speed_estimate_period=float("inf")) as bar:
        task = bar.add_task("trials", total=None)

        def start(missing: int) -> None:
            counts = f"{len(trials) - missing} of {len(trials)} trials are finished, {missing} to run"
            bar.console.print(f"{counts}; a trial is {len(setup.runs)} runs x {setup.sweeps} sweeps", highlight=False)
            bar.update(task, total=missing)
            bar.advance(task, 0)  # so that the estimate starts here, not when the first trial ends

        def finish(trial: Trial) -> None:
            bar.advance(task)
            if not bar.console.is_terminal:  # a log shows no bar
                (state,) = bar.tasks
                left = timedelta(seconds=state.time_remaining)
                bar.console.print(f"{trial.name}: {state.completed} of {state.total} trials, {left} left",
                                  highlight=False)

        try:
            return run_trials(trials, setup, store, jobs, ray=ray, on_start=start, on_trial=finish)
        except KeyboardInterrupt:
            message = f"finished trials are in {store.folder}: the same command continues from there"
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
