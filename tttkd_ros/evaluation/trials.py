"""Trials of a benchmark. A trial is one drive, on which all methods run: in processes, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tttkd_ros.datasets.parts import Part, SimulatedPart
from tttkd_ros.digests import code_version, digest, flat
from tttkd_ros.evaluation.drives import DescribedDrive, Drive
from tttkd_ros.evaluation.inputs import libraries
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.part_drives import open_drive
from tttkd_ros.evaluation.replay import RunConfig, check_fit, replay
from tttkd_ros.evaluation.result import Result
from tttkd_ros.evaluation.store import Store
from tttkd_ros.methods import IMAGE_HEAD
from tttkd_ros.paths import shipped_path
from tttkd_ros.subprocesses import init_pool_worker


@dataclass(frozen=True)
class Setup:
    """What all trials share. The frozen student's run is one of `runs`."""

    runs: tuple[RunConfig, ...]
    model: Path | None = None
    teacher: str | None = None
    own_students: tuple[tuple[str, Path], ...] = ()  # method -> checkpoint, in a form that can be hashed
    engine: str = "auto"
    device: str = "cpu"

    @property
    def models(self) -> Models:
        return Models(self.model, self.teacher, own_students=dict(self.own_students), engine=self.engine,
                      device=self.device)

    @property
    def image_head(self) -> Path:
        return next((run.image_head for run in self.runs if run.image_head), None) or shipped_path(IMAGE_HEAD)


class _Job(NamedTuple):
    """runs: those that are missing."""

    trial: str
    part: Part
    setup: Setup
    runs: tuple[RunConfig, ...]


_Outcome = tuple[str, list[Result]]


def check(parts: Mapping[str, Part], setup: Setup) -> None:
    """Raise what would end a trial: ValueError for an unusable drive, and what `Models` and `check_fit` raise."""
    models = setup.models
    for run in setup.runs:
        check_fit(run, *_student_and_teacher(models, run))
    for name, part in parts.items():
        iter(part)  # refuses a drive that cannot be simulated
        drive = _drive(part)
        if drive.truth is None:
            raise ValueError(f"{name} has no labels: a benchmark needs drives with truth")
        if not drive.cameras and (blind := [run.title for run in setup.runs if run.learns_from_images]):
            raise ValueError(f"{name} has no camera to adapt by: leave it out, or the run {blind[0]}")


def benchmark_inputs(parts: Mapping[str, Part], setup: Setup) -> dict:
    """What the results depend on besides the method, as JSON values. Drives have entries of their own."""
    digests = {name: digest(path) if path.exists() else str(path) for name, path in setup.models.paths.items()}
    own_students = {name: digests.pop(name) for name, _ in setup.own_students}  # which may be added later
    return {
        "code": code_version(),
        "libraries": libraries(),
        "engine": setup.engine,
        "device": setup.device,
        "rotations": setup.runs[0].rotations,
        "guard": setup.runs[0].config.guard,
        "models": digests,
        "image_head": digest(setup.image_head),
        **own_students,
        **{f"drive {name}": flat(part.inputs) for name, part in parts.items()},
    }


def run_trials(
    parts: Mapping[str, Part], setup: Setup, store: Store, processes: int, *, ray: str | None = None,
    on_start: Callable[[int], object] = lambda missing: None,
    on_runs: Callable[[str, int], object] = lambda trial, finished: None,
) -> dict[str, list[Result]]:
    """Run the trials in parallel and store each result as soon as it is finished. Stored runs are not run again.

    parts: name of a trial -> its drive. ray: address of a Ray cluster that runs them instead of `processes` workers
    ("local" for one on this machine). Its machines need this package, the models and the data at the same paths.
    on_start: called with the number of missing runs. on_runs: called with a trial and the number of its runs that have
    just finished. Returns name -> results in the order of `setup.runs`.
    """
    found: dict[str, dict[str, Result]] = {}  # title -> result
    jobs: list[_Job] = []
    for trial, part in parts.items():
        stored = {run: store.read(trial, run.title) for run in setup.runs}
        found[trial] = {run.title: result for run, result in stored.items() if result is not None}
        missing = tuple(run for run, result in stored.items() if result is None)
        # The runs on a simulated drive share it, because simulating takes longer than reading.
        together = [missing] if isinstance(part, SimulatedPart) and missing else [(run,) for run in missing]
        jobs += [_Job(trial, part, setup, runs) for runs in together]
    on_start(sum(len(job.runs) for job in jobs))
    if jobs:
        with closing(_on_this_machine(jobs, processes) if ray is None else _on_cluster(ray, jobs)) as outcomes:
            for trial, results in outcomes:
                for result in results:
                    store.write(trial, result)
                    found[trial][result.title] = result
                on_runs(trial, len(results))
    return {trial: [found[trial][run.title] for run in setup.runs] for trial in parts}


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
    """Compute the missing results. Of a simulated drive they are compared with the frozen student, which always runs;
    the labels of a longer one would not fit into memory."""
    models = _models(job.setup)

    def run_one(drive: Drive, run: RunConfig, **hooks) -> Result:
        return replay(drive, *_student_and_teacher(models, run), run, **hooks)

    if not isinstance(job.part, SimulatedPart):
        drive = _drive(job.part)
        return job.trial, [run_one(drive, run) for run in job.runs]
    drive = list(_drive(job.part))
    labels: dict[int, np.ndarray] = {}  # stamp -> the frozen student's
    frozen = next(run for run in job.setup.runs if run.is_baseline)
    first = run_one(drive, frozen, on_sweep=lambda frame, made: labels.update({frame.stamp: made.labels}))
    return job.trial, [first if run == frozen else run_one(drive, run, reference=lambda frame: labels[frame.stamp])
                       for run in job.runs]


def _drive(part: Part) -> DescribedDrive:
    return open_drive(part, part.class_set)


def _student_and_teacher(models: Models, run: RunConfig) -> tuple:
    student = models.student_of(run.method)
    return student, models.teacher if run.uses_images or student.config.injection else None


@lru_cache(maxsize=1)
def _models(setup: Setup) -> Models:
    return setup.models
