"""The runs of an evaluation: expanding lists of methods and settings into runs, and running all of them on a bag."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import product

from rich.markup import escape
from rich.progress import Progress

from tttkd_ros.evaluation.drives import DescribedDrive
from tttkd_ros.evaluation.inputs import ALL_BAGS
from tttkd_ros.evaluation.models import Models
from tttkd_ros.evaluation.replay import NO_IMAGE, RunConfig, replay
from tttkd_ros.evaluation.result import Result, joined
from tttkd_ros.evaluation.store import LabelFile, Store
from tttkd_ros.frame import Frame
from tttkd_ros.methods import FROZEN, METHODS, OFFLINE_KD, ONLINE_KD, OWN_STUDENT
from tttkd_ros.segmenter.segmenter import Prediction

ALL = "all"


@dataclass(frozen=True, eq=False)
class BagResults:
    """Results of all runs on one bag, or on all bags together.

    left_out: title of a run -> reason why it has no result. cameras, truth, damage: see `DescribedDrive`. If a bag has
    no sweeps, damage is the reason why it cannot be read.
    """

    bag: str
    sweeps: int
    results: tuple[Result, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    cameras: tuple[str, ...] = ()
    truth: str | None = None
    damage: str | None = None


def plan(
    names: Sequence[str], common: RunConfig, *, strides: Sequence[int], learning_rates: Sequence[float],
    bn_momenta: Sequence[float], steps: Sequence[int], rotations: Sequence[int], offline_steps: Sequence[int],
    images: Sequence[int] = (), controls: Sequence[str] = (),
    baseline_learning_rates: Sequence[float] = (), own_students: Collection[str] = (),
) -> list[RunConfig]:
    """List the runs, each once, in the order of `METHODS`. Frozen is always the first, as the baseline.

    `names` are methods or "all", `common` are settings that all runs share. Strides go to every online method, learning
    rates, BatchNorm momenta and rotations to ttt-kd-o and ttt-kd, steps to ttt-kd-o, offline_steps to ttt-kd (the other
    methods take one step on a sweep), images to methods that learn from images. controls: run ttt-kd-o and ttt-kd with
    each of them as well, and frozen if the student injects images. Without images and with frozen statistics nothing
    adapts, so that run is left out: it equals frozen. baseline_learning_rates: instead of the default of each baseline
    that has one. own_students: methods of `OWN_STUDENT` to run as well.
    """
    if not names:
        raise ValueError(f"no method given, expected at least one of {ALL}, {', '.join(METHODS)}")
    wanted = {FROZEN, *names, *own_students, *(METHODS.keys() - OWN_STUDENT if ALL in names else ())}
    runs = []
    for name, spec in METHODS.items():
        if name not in wanted:
            continue
        kd = name in (ONLINE_KD, OFFLINE_KD)
        choices = {
            "stride": strides if spec.online else (),
            "learning_rate": learning_rates if kd else (),
            "bn_momentum": bn_momenta if kd else (),
            "steps": {ONLINE_KD: steps, OFFLINE_KD: offline_steps}.get(name, (1,)),
            "rotations": rotations if kd else (),
        }
        choices = {key: values for key, values in choices.items() if values}
        injected = common.injects and name == FROZEN
        counts = (None, *images) if injected else images if spec.uses_images and images else (None,)
        rates = baseline_learning_rates if spec.own_learning_rate and baseline_learning_rates else (None,)
        variants = product((None, *(controls if kd or injected else ())), counts, rates)
        for (control, count, rate), values in product(variants, product(*choices.values())):
            config = replace(common.config, **dict(zip(choices, values, strict=True)))
            if control == NO_IMAGE and config.bn_momentum == 0 and kd:
                continue
            runs.append(replace(common, method=name, config=config, images=count, control=control, learning_rate=rate))
    return list({run.title: run for run in runs}.values())


def run_bag(
    bag: str, drive: DescribedDrive, runs: Sequence[RunConfig], models: Models, store: Store, bar: Progress
) -> BagResults:
    """Run every method on one bag and store each result as soon as it is finished.

    Finished runs are read from the store, impossible ones are left out with a reason.
    """
    results, left_out, labels = [], {}, store.labels(bag)
    for run in runs:
        name = escape(f"{bag}: {run.title}")
        task = bar.add_task(name, total=len(drive))
        result = store.read(bag, run.title)
        if result is not None and _is_complete(run, result, labels):
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


def _is_complete(run: RunConfig, result: Result, labels: LabelFile) -> bool:
    """Whether the frozen student's labels are stored with its result, and other results are compared with them."""
    if run.is_baseline:
        return labels.holds(int(result.predicted.sum()))
    return result.agreement is not None or not labels.path.is_file()


def _run(
    drive: DescribedDrive, run: RunConfig, models: Models, labels: LabelFile, advance: Callable[[], None]
) -> Result:
    if run.learns_from_images and not drive.cameras:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in drive.unusable.items()) or "there is none"
        raise ValueError(f"the bag has no camera to adapt by ({reasons})")
    student = models.student_of(run.method)
    teacher = models.teacher if run.uses_images or student.config.injection else None
    if run.is_baseline:
        with labels.write() as record:

            def on_sweep(frame: Frame, prediction: Prediction) -> None:
                record(frame, prediction)
                advance()

            return replay(drive, student, teacher, run, on_sweep=on_sweep, reference=None)
    with labels.read() if labels.path.is_file() else nullcontext() as reference:
        return replay(drive, student, teacher, run, on_sweep=lambda *_: advance(), reference=reference)


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
