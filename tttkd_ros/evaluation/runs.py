"""Running all methods on a bag: finished runs are read from the store, impossible ones are left out with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from rich.markup import escape
from rich.progress import Progress

from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.inputs import ALL_BAGS
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import RunConfig, replay
from tttkd_ros.evaluation.result import Result, joined
from tttkd_ros.evaluation.store import LabelFile, Store
from tttkd_ros.frame import Frame
from tttkd_ros.methods import FROZEN, SOURCE_ONLY
from tttkd_ros.segmenter.segmenter import Prediction


@dataclass(frozen=True, eq=False)
class BagResults:
    """Results of all runs on one bag, or on all bags together.

    left_out: title of a run -> reason why it has no result. cameras, truth, damage: see `BagDrive`. If a bag has no
    sweeps, damage is the reason why it cannot be read.
    """

    bag: str
    sweeps: int
    results: tuple[Result, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    truth: str | None = None
    damage: str | None = None


def run_bag(
    bag: str, drive: BagDrive, runs: Sequence[RunConfig], models: Models, store: Store, bar: Progress
) -> BagResults:
    """Run every method on one bag and store each result as soon as it is finished."""
    results, left_out, labels = [], {}, store.labels(bag)
    for run in runs:
        name = escape(f"{bag}: {run.title}")
        task = bar.add_task(name, total=len(drive))
        result = store.read(bag, run.title)
        if result is not None and _is_complete(result, labels):
            bar.update(task, completed=len(drive), description=f"{name} (from {escape(str(store.folder))})")
        else:
            try:
                result = _run(drive, run, models, labels, lambda task=task: bar.advance(task))
            except (ValueError, OSError) as error:
                left_out[run.title] = str(error)
                bar.update(task, description=f"{name} (left out)")
                continue
            store.write(bag, result)
        results.append(result)
    return BagResults(bag, len(drive), tuple(results), left_out, drive.cameras, drive.truth, drive.damage)


def _is_complete(result: Result, labels: LabelFile) -> bool:
    """Whether the frozen student's labels are stored with its result, and other results are compared with them."""
    if result.name == FROZEN:
        return labels.holds(int(result.predicted.sum()))
    return result.agreement is not None or not labels.path.is_file()


def _run(drive: BagDrive, run: RunConfig, models: Models, labels: LabelFile, advance: Callable[[], None]) -> Result:
    if run.uses_images and not drive.cameras:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in drive.unusable.items()) or "there is none"
        raise ValueError(f"the bag has no camera to adapt by ({reasons})")
    student = models.source_only if run.method == SOURCE_ONLY else models.student
    teacher = models.teacher if run.uses_images else None
    with ExitStack() as stack:
        record = reference = None
        if run.method == FROZEN:
            record = stack.enter_context(labels.write())
        elif labels.path.is_file():
            reference = stack.enter_context(labels.read())

        def on_sweep(frame: Frame, prediction: Prediction) -> None:
            if record is not None:
                record(frame, prediction)
            advance()

        return replay(drive, student, teacher, run, on_sweep=on_sweep, reference=reference)


def all_bags(bags: Sequence[BagResults]) -> BagResults:
    """Join the bags' results: runs that every bag with results has. Other runs are left out."""
    bags = [bag for bag in bags if bag.results]
    if len(bags) == 1:
        return replace(bags[0], bag=ALL_BAGS)
    by_title = [{result.title: result for result in bag.results} for bag in bags]
    left_out = {title: "not on every bag" for results in by_title for title in results}
    left_out |= {title: reason for bag in bags for title, reason in bag.left_out.items()}
    shared = [title for title in by_title[0] if all(title in results for results in by_title)]
    for title in shared:
        left_out.pop(title)
    joint = tuple(joined([results[title] for results in by_title]) for title in shared)
    return BagResults(ALL_BAGS, sum(bag.sweeps for bag in bags), joint, left_out)
