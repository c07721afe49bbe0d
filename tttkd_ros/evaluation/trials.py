"""Methods on simulated drives under named shifts. A trial is one shift and one seed: all methods on the same drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tttkd_ros.digests import code, digest
from tttkd_ros.evaluation.inputs import CODE, libraries
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import SOURCE_ONLY, Method, check_fit, replay
from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.store import Store
from tttkd_ros.methods import IMAGE_HEAD
from tttkd_ros.paths import shipped_path
from tttkd_ros.pools import start_worker
from tttkd_ros.simulation.shifts import shifted_frames


class Trial(NamedTuple):
    shift: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.shift}_{self.seed}"


@dataclass(frozen=True)
class Setup:
    """What the trials share. methods: the frozen student's first, with whose labels the others' are compared. model,
    teacher, source_only, engine: as `Models` takes them."""

    methods: tuple[Method, ...]
    sweeps: int
    model: Path | None = None
    teacher: str | None = None
    source_only: Path | None = None
    engine: str = "auto"

    @property
    def models(self) -> Models:
        return Models(self.model, self.teacher, source_only=self.source_only, engine=self.engine)


_Job = tuple[Trial, Setup, frozenset[Method]]
_Outcome = tuple[Trial, list[Result]]


def check(trials: Sequence[Trial], setup: Setup) -> None:
    """Raise the ValueError or FileNotFoundError that would end the trials: where a drive cannot be, a model cannot be
    read, or one does not fit a method."""
    for trial in trials:
        shifted_frames(trial.shift, trial.seed, setup.sweeps)
    models = setup.models
    for method in setup.methods:
        student = models.source_only if method.name == SOURCE_ONLY else models.student
        check_fit(method, student, models.teacher if method.uses_images else None)


def benchmark_inputs(setup: Setup) -> dict:
    """JSON values that the results depend on, beside shift, seed and method."""
    paths = setup.models.paths
    return {
        "code": code((*CODE, "simulation")),
        "libraries": libraries(),
        "sweeps": setup.sweeps,
        "engine": setup.engine,
        "rotations": setup.methods[0].rotations,
        "models": {name: digest(path) if path.exists() else str(path) for name, path in paths.items() if path},
        "image_head": digest(shipped_path(IMAGE_HEAD)),
    }


def run_trials(
    trials: Sequence[Trial],
    setup: Setup,
    store: Store,
    processes: int,
    *,
    ray: str | None = None,
    on_trial: Callable[[Trial], object] = lambda trial: None,
) -> dict[Trial, list[Result]]:
    """The results of each trial, those of `setup.methods` in their order, each in the store as soon as it is there.

    What is in the store already is not run again. ray: address of a Ray cluster ("local" for one of this machine), on
    whose machines the trials then run; they need this package and the models at the same paths.
    """
    found: dict[Trial, dict[str, Result]] = {}  # by their titles
    jobs = []
    for trial in trials:
        kept = {method: store.read(trial.name, method.title) for method in setup.methods}
        found[trial] = {method.title: result for method, result in kept.items() if result is not None}
        if missing := frozenset(method for method, result in kept.items() if result is None):
            jobs.append((trial, setup, missing))
        else:
            on_trial(trial)
    if jobs:
        run = _on_this_machine if ray is None else partial(_on_cluster, ray)
        with closing(run(jobs, processes)) as outcomes:
            for trial, results in outcomes:
                for result in results:
                    store.write(trial.name, result)
                    found[trial][result.title] = result
                on_trial(trial)
    return {trial: [found[trial][method.title] for method in setup.methods] for trial in trials}


def _on_this_machine(jobs: Sequence[_Job], processes: int) -> Iterator[_Outcome]:
    """As they are finished. Leaving early, by Ctrl-C or an error, ends the processes."""
    others = set(active_children())
    with ProcessPoolExecutor(min(processes, len(jobs)), get_context("spawn"), start_worker) as pool:
        try:
            for future in as_completed([pool.submit(_run, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise ValueError("a process of the benchmark was killed; was there memory for so many? Fewer --jobs take "
                             "less") from error
        finally:  # the pool's own end would wait for its jobs; so it finds its processes gone, and drops them
            for process in set(active_children()) - others:
                process.terminate()


def _on_cluster(address: str, jobs: Sequence[_Job], processes: int) -> Iterator[_Outcome]:
    """As they are finished, on all the processors that the cluster has."""
    try:
        from ray.util.multiprocessing import Pool
    except ImportError as error:
        raise ValueError(f"Ray is not installed ({error}): pip install 'tttkd_ros[ray]', or leave out --ray") from error
    with Pool(initializer=start_worker, ray_address=address) as pool:
        yield from pool.imap_unordered(_run, jobs)


def _run(job: _Job) -> _Outcome:
    """The results that are missing. The frozen student is run in any case, for the others are compared with it."""
    trial, setup, missing = job
    models = _models(setup)
    drive = list(shifted_frames(trial.shift, trial.seed, setup.sweeps))
    frozen: dict[int, np.ndarray] = {}  # stamp -> labels

    def run(method: Method, **hooks) -> Result:
        student = models.source_only if method.name == SOURCE_ONLY else models.student
        return replay(drive, student, models.teacher if method.uses_images else None, method, **hooks)

    first, *others = setup.methods
    results = [run(first, on_sweep=lambda frame, said: frozen.update({frame.stamp: said.labels}))]
    results += [run(method, reference=lambda frame: frozen[frame.stamp]) for method in others if method in missing]
    return trial, results if first in missing else results[1:]


@lru_cache(maxsize=1)
def _models(setup: Setup) -> Models:
    return setup.models
