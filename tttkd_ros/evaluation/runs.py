"""Runs over bags: what is finished is read back, what cannot be run is left out with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from rich.progress import Progress

from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.inputs import ALL_BAGS
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import FROZEN, SOURCE_ONLY, Method, replay
from tttkd_ros.evaluation.result import Result, joined
from tttkd_ros.evaluation.store import LabelFile, Store
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.segmenter import Prediction


@dataclass(frozen=True, eq=False)
class BagResults:
    """All runs over one bag, or over all bags together. left_out: title of a run -> why it is not among the results.

    cameras, truth, damage: see `BagDrive`; of a bag without sweeps, damage is why it cannot be read.
    """

    bag: str
    sweeps: int
    results: tuple[Result, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    truth: str | None = None
    damage: str | None = None


def run_bag(
    bag: str, drive: BagDrive, methods: Sequence[Method], models: Models, store: Store, bar: Progress
) -> BagResults:
    """Every method on one bag, each kept in the store as soon as it is finished."""
    results, left_out = [], {}
    for method in methods:
        task = bar.add_task(method.title, total=len(drive), note=bag)
        result = store.read(bag, method.title)
        if result is not None and _holds(result, store.labels(bag)):
            bar.update(task, completed=len(drive), note=f"{bag}, from {store.folder}")
        else:
            try:
                result = _run(drive, method, models, store.labels(bag), lambda task=task: bar.advance(task))
            except (ValueError, OSError) as error:
                left_out[method.title] = str(error)
                bar.update(task, note=f"{bag}, left out")
                continue
            store.write(bag, result)
        results.append(result)
    return BagResults(bag, len(drive), tuple(results), left_out, drive.cameras, drive.truth, drive.damage)


def _holds(result: Result, labels: LabelFile) -> bool:
    """Whether a result is what a run would give now: with the frozen student's labels to compare with, or for others
    to be compared with."""
    if result.name == FROZEN:
        return labels.holds(int(result.predicted.sum()))
    return result.agreement is not None or not labels.path.is_file()


def _run(drive: BagDrive, method: Method, models: Models, labels: LabelFile, advance: Callable[[], None]) -> Result:
    if method.uses_images and not drive.cameras:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in drive.unusable.items()) or "there is none"
        raise ValueError(f"the bag has no camera to adapt by ({reasons})")
    student = models.source_only if method.name == SOURCE_ONLY else models.student
    teacher = models.teacher if method.uses_images else None
    with ExitStack() as stack:
        record = reference = None
        if method.name == FROZEN:
            record = stack.enter_context(labels.write())
        elif labels.path.is_file():
            reference = stack.enter_context(labels.read())

        def on_sweep(frame: Frame, prediction: Prediction) -> None:
            if record is not None:
                record(frame, prediction)
            advance()

        return replay(drive, student, teacher, method, on_sweep=on_sweep, reference=reference)


def all_bags(bags: Sequence[BagResults]) -> BagResults:
    """Over all bags with results together, the runs that there are on every one of them."""
    bags = [bag for bag in bags if bag.results]
    if len(bags) == 1:
        return replace(bags[0], bag=ALL_BAGS)
    titles = [{result.title: result for result in bag.results} for bag in bags]
    left_out = {title: "not on every bag" for found in titles for title in found} | {
        title: reason for bag in bags for title, reason in bag.left_out.items()
    }
    results = []
    for title in titles[0]:
        if all(title in found for found in titles):
            results.append(joined([found[title] for found in titles]))
            left_out.pop(title)
    return BagResults(ALL_BAGS, sum(bag.sweeps for bag in bags), tuple(results), left_out)
