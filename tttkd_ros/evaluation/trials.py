"""Trials of a benchmark. A trial is one shift and one seed: all methods run on the same simulated drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tttkd_ros.digests import code_version, digest
from tttkd_ros.evaluation.inputs import libraries
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import RunConfig, check_fit, replay
from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.store import Store
from tttkd_ros.methods import IMAGE_HEAD
from tttkd_ros.paths import shipped_path
from tttkd_ros.simulation.shifts import shifted_frames
from tttkd_ros.subprocesses import init_pool_worker


class Trial(NamedTuple):
    shift: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.shift}_{self.seed}"


@dataclass(frozen=True)
class Setup:
    """What all trials share. The frozen student's run is the first, because the others are compared with it."""

    runs: tuple[RunConfig, ...]
    sweeps: int
    model: Path | None = None
    teacher: str | None = None
    own_students: tuple[tuple[str, Path], ...] = ()  # method -> checkpoint, in a form that can be hashed
    engine: str = "auto"

    @property
    def models(self) -> Models:
        return Models(self.model, self.teacher, own_students=dict(self.own_students), engine=self.engine)


_Job = tuple[Trial, Setup, frozenset[RunConfig]]
_Outcome = tuple[Trial, list[Result]]


def check(trials: Sequence[Trial], setup: Setup) -> None:
    """Raise what would end a trial: ValueError for an impossible drive, and what `Models` and `check_fit` raise."""
    for trial in trials:
        shifted_frames(trial.shift, trial.seed, setup.sweeps)
    models = setup.models
    for run in setup.runs:
        check_fit(run, *_student_and_teacher(models, run))


def benchmark_inputs(setup: Setup) -> dict:
    """What the results depend on besides shift, seed and method, as JSON values."""
    digests = {name: digest(path) if path.exists() else str(path) for name, path in setup.models.paths.items()}
    own_students = {name: digests.pop(name) for name, _ in setup.own_students}  # which may be added later
    return {
        "code": code_version(),
        "libraries": libraries(),
        "sweeps": setup.sweeps,
        "engine": setup.engine,
        "rotations": setup.runs[0].rotations,
        "guard": setup.runs[0].config.guard,
        "models": digests,
        "image_head": digest(shipped_path(IMAGE_HEAD)),
        **own_students,
    }


def run_trials(
    trials: Sequence[Trial], setup: Setup, store: Store, processes: int, *, ray: str | None = None,
    on_start: Callable[[int], object] = lambda missing: None, on_trial: Callable[[Trial], object] = lambda trial: None,
) -> dict[Trial, list[Result]]:
    """Run the trials in parallel and store each result as soon as it is finished. Stored runs are not run again.

    ray: address of a Ray cluster that runs the trials instead of `processes` workers ("local" for one on this machine).
    Its machines need this package and the models at the same paths. on_start: called with the number of trials of which
    runs are missing. on_trial: called after each of them. Returns trial -> results in the order of `setup.runs`.
    """
    found: dict[Trial, dict[str, Result]] = {}  # title -> result
    jobs = []
    for trial in trials:
        stored = {run: store.read(trial.name, run.title) for run in setup.runs}
        found[trial] = {run.title: result for run, result in stored.items() if result is not None}
        if missing := frozenset(run for run, result in stored.items() if result is None):
            jobs.append((trial, setup, missing))
    on_start(len(jobs))
    if jobs:
        with closing(_on_this_machine(jobs, processes) if ray is None else _on_cluster(ray, jobs)) as outcomes:
            for trial, results in outcomes:
                for result in results:
                    store.write(trial.name, result)
                    found[trial][result.title] = result
                on_trial(trial)
    return {trial: [found[trial][run.title] for run in setup.runs] for trial in trials}


def _on_this_machine(jobs: Sequence[_Job], processes: int) -> Iterator[_Outcome]:
    """Yield outcomes as they finish. If the caller stops early, by Ctrl-C or an error, the workers are ended."""
    others = set(active_children())
    with ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn"), init_pool_worker) as pool:
        try:
            for future in as_completed([pool.submit(_run, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise ValueError("a process of the benchmark was killed, perhaps for lack of memory: use fewer --jobs"
                             ) from error
        finally:  # the pool's own exit would wait for the running jobs
            for process in set(active_children()) - others:
                process.terminate()


def _on_cluster(address: str, jobs: Sequence[_Job]) -> Iterator[_Outcome]:
    """Yield outcomes as they finish, on all processors of the cluster."""
    try:
        from ray.util.multiprocessing import Pool
    except ImportError as error:
        raise ValueError(f"Ray is not installed ({error}): pip install 'tttkd_ros[ray]', or leave out --ray") from error
    with Pool(initializer=init_pool_worker, ray_address=address) as pool:
        yield from pool.imap_unordered(_run, jobs)


def _run(job: _Job) -> _Outcome:
    """Compute the missing results. The frozen student always runs, because the others are compared with it."""
    trial, setup, missing = job
    models = _models(setup)
    drive = list(shifted_frames(trial.shift, trial.seed, setup.sweeps))
    frozen: dict[int, np.ndarray] = {}  # stamp -> labels

    def run_one(run: RunConfig, **hooks) -> Result:
        return replay(drive, *_student_and_teacher(models, run), run, **hooks)

    first, *others = setup.runs
    results = [run_one(first, on_sweep=lambda frame, made: frozen.update({frame.stamp: made.labels}))]
    results += [run_one(run, reference=lambda frame: frozen[frame.stamp]) for run in others if run in missing]
    return trial, results if first in missing else results[1:]


def _student_and_teacher(models: Models, run: RunConfig) -> tuple:
    return models.student_of(run.method), models.teacher if run.uses_images else None


@lru_cache(maxsize=1)
def _models(setup: Setup) -> Models:
    return setup.models
