"""`tttkd benchmark`: methods x simulated target shifts x seeds, in parallel, resumable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.cli.evaluate import MethodName
from tttkd_ros.simulation.shifts import GROUPS, SHIFTS

ONLINE = ("frozen", "tent", "dua", "adacontrast", "xmuda", "mm-tta", "ttt-kd-o")


def benchmark(
    out: Annotated[Path, tyro.conf.Positional],
    *,
    shift: tuple[Literal[tuple(SHIFTS)], ...] = tuple(SHIFTS),
    method: tuple[MethodName, ...] = ONLINE,
    seeds: tuple[int, ...] = (401, 402, 403, 404, 405),
    sweeps: int = 300,
    stride: tuple[int, ...] = (TTTConfig.stride,),
    learning_rate: tuple[float, ...] = (TTTConfig.learning_rate,),
    bn_momentum: tuple[float, ...] = (TTTConfig.bn_momentum,),
    steps: tuple[int, ...] = (25,),
    rotations: int = 1,
    model: Path | None = None,
    source_only: Path | None = None,
    teacher: str | None = None,
    engine: str = "auto",
    jobs: int = os.cpu_count() or 1,
    ray: str | None = None,
) -> None:
    """Compare methods on simulated drives under every target shift, and print mean and spread over the seeds.

    Each trial (a shift and a seed) is a drive simulated anew, with all methods run on it, lossless. What is finished is
    kept in `out`: the same command goes on from there, and with more shifts, seeds or methods runs only what is new.

    Args:
        out: folder for table.md, results.json and every finished run.
        shift: those to run; `tttkd simulate --help` says what each of them is. All if not given.
        method: frozen, the student as it is, is run in any case.
        seeds: of the drives.
        sweeps: of each drive.
        stride: online methods take a step on every stride-th sweep; of several, a run for each.
        learning_rate: of ttt-kd-o and ttt-kd; of several, a run for each.
        bn_momentum: least share by which BatchNorm's running statistics go towards each sweep's in ttt-kd-o and ttt-kd;
            0, as in the paper, freezes them; of several, a run for each.
        steps: of ttt-kd on each sweep; of several, a run for each.
        rotations: about the vertical, over which logits are accumulated.
        model: student checkpoint; the one that ships if not given.
        source_only: checkpoint of a student that was trained without the teacher, to be run as it is beside the others.
        teacher: teacher directory or hub name; the one that ships if not given.
        engine: what runs the teacher; auto takes the fastest that agrees with eager.
        jobs: processes, of one thread each.
        ray: address of a Ray cluster that is to run the trials ("auto" for the one that this machine belongs to).
    """
    from rich.console import Console

    from tttkd_ros.evaluation.leaderboard import Leaderboard
    from tttkd_ros.evaluation.plan import plan
    from tttkd_ros.evaluation.replay import Method
    from tttkd_ros.evaluation.report import write_json
    from tttkd_ros.evaluation.store import Store
    from tttkd_ros.evaluation.trials import Setup, Trial, benchmark_inputs, check, run_trials
    from tttkd_ros.files import write_whole
    from tttkd_ros.progress import progress

    for name, value in (("jobs", jobs), ("sweeps", sweeps)):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    for name, values in (("shift", shift), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{name} is {values}: expected at least one, and each once")
    if min(seeds) < 0:
        raise ValueError(f"seeds is {seeds}: expected none below 0")
    methods = plan(
        method, Method("ttt-kd-o", rotations=rotations), strides=stride, learning_rates=learning_rate,
        bn_momenta=bn_momentum, steps=steps, source_only=source_only is not None,
    )  # fmt: skip
    setup = Setup(tuple(methods), sweeps, model, teacher, source_only, engine)
    # Seed by seed, so that one that was interrupted has compared all shifts alike.
    trials = [Trial(name, seed) for seed in seeds for name in shift]
    check(trials, setup)  # before the folder is made, which would hold to these inputs
    store = Store(out, benchmark_inputs(setup))
    with progress() as bar:
        task = bar.add_task("trials", total=len(trials), note="")
        try:
            results = run_trials(
                trials, setup, store, jobs, ray=ray,
                on_trial=lambda trial: bar.update(task, advance=1, note=trial.name),
            )  # fmt: skip
        except KeyboardInterrupt:
            told = f"finished trials are in {out}: the same command goes on from there"
            Console(stderr=True).print(told, markup=False)
            raise
    standings = Leaderboard(results, {group: list(shifts) for group, shifts in GROUPS.items()})
    write_json(out / "results.json", standings.content())
    write_whole(out / "table.md", standings.markdown().encode())
    Console().print(standings.table())
    for sentence in standings.verdict():
        Console().print(sentence, markup=False, highlight=False)
