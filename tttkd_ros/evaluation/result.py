"""The result of a run: counts for every sweep, and all figures that follow from them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.diagnosis import kind_of
from tttkd_ros.evaluation.metrics import BINS, calibration_error, class_iou, mean_iou, windowed_mean_iou, worst_class
from tttkd_ros.methods import FROZEN, OFFLINE_KD, ONLINE_KD

WINDOW = 50  # sweeps for each value of mIoU over time
# Settings that appear in a run's title, and their names there. A setting at its default does not appear.
TITLE_NAMES = {"stride": "stride", "learning_rate": "lr", "bn_momentum": "bn", "steps": "steps",
               "train_rotations": "rotations", "images": "images", "control": "", "shift_z": "z shift"}
TITLE_DEFAULTS = {"bn_momentum": TTTConfig.bn_momentum, "train_rotations": TTTConfig.rotations}
METHOD_STEPS = {ONLINE_KD: TTTConfig.steps, OFFLINE_KD: None}  # the other methods take one


def step_counts(steps: Sequence[StepReport]) -> dict:
    """The fields of a `Result` that count these steps."""
    accepted = [step for step in steps if step.accepted]
    return {
        "steps_tried": len(steps),
        "steps_accepted": len(accepted),
        "rejections": dict(Counter(kind_of(step.reason) for step in steps if not step.accepted)),
        "losses": tuple((step.stamp, step.loss) for step in accepted if math.isfinite(step.loss)),
    }


def title(name: str, settings: Mapping[str, float | int | str | None]) -> str:
    """Method and settings that distinguish a run from others, e.g. "ttt-kd-o, stride 5, lr 0.1"."""
    parts, defaults = [name], TITLE_DEFAULTS | {"steps": METHOD_STEPS.get(name, 1)}
    for key, label in TITLE_NAMES.items():
        value = settings.get(key)
        if value is not None and value != defaults.get(key):
            parts.append(f"{label} {value}".strip())
    return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Timing:
    """Wall-clock seconds of predictions (S,), each from points to labels, and of adaptation steps (K,).

    They differ from run to run, so a result's summary and file do not contain them.
    """

    predictions: np.ndarray
    steps: np.ndarray

    def summary(self) -> dict:
        """Predictions per second with steps between them, as in the paper; latency of predictions; seconds per step."""
        total = self.predictions.sum() + self.steps.sum() if len(self.predictions) else 0
        percentiles = np.percentile(1e3 * self.predictions, (50, 95, 99)) if len(self.predictions) else [np.nan] * 3
        return {
            "predictions_per_second": _rounded(len(self.predictions) / total if total else np.nan),
            "latency_ms": dict(zip(("p50", "p95", "p99"), map(_rounded, percentiles), strict=True)),
            "seconds_per_step": _rounded(self.steps.mean() if len(self.steps) else np.nan),
        }


@dataclass(frozen=True)
class Delivery:
    """Sweeps sent to a live node and predictions received; whether all rise by stamp and have their sweep's points."""

    sweeps_sent: int
    sweeps_received: int
    in_order: bool
    points_and_frames_intact: bool

    @property
    def complete(self) -> bool:
        return self.sweeps_sent == self.sweeps_received and self.in_order and self.points_and_frames_intact


@dataclass(frozen=True, eq=False)
class Result:
    """Result of one run over a drive, or over several drives one after the other.

    stamps: (S,) int64 nanoseconds.
    matrices: (S, 2, C, C + 1) int64 confusion matrices, see `metrics.confusion`; zeros without truth. On the second
        axis, 0 holds the points that no camera sees and 1 those that one does.
    rejections: kind of reason -> number of steps. losses: (stamp, loss) of the accepted steps, if there is a loss.
    predicted: (S, C + 1) int64, number of points by predicted class; the last column is unlabelled.
    agreement: (S, 2) int64, points with the frozen student's label, and all points; None if not compared.
    calibration: (BINS, 3), see `metrics.calibration`. samples: stamp -> labels (N,) uint8 of a few sweeps.
    lengths: number of sweeps of each drive; () for one drive. delivery: of a live run.
    problems: explanations why almost all steps were rejected or almost no point is labelled.
    """

    name: str
    class_names: tuple[str, ...]
    stamps: np.ndarray
    matrices: np.ndarray
    settings: dict[str, float | int | str | None] = field(default_factory=dict)
    steps_tried: int = 0
    steps_accepted: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    losses: tuple[tuple[int, float], ...] = ()
    predicted: np.ndarray | None = None
    agreement: np.ndarray | None = None
    calibration: np.ndarray = field(default_factory=lambda: np.zeros((BINS, 3)))
    samples: Mapping[int, np.ndarray] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()
    timing: Timing = Timing(np.empty(0), np.empty(0))
    delivery: Delivery | None = None
    problems: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return title(self.name, self.settings)

    @property
    def sweeps(self) -> int:
        return len(self.stamps)

    @property
    def sweeps_with_truth(self) -> int:
        """Number of sweeps with at least one point that has a class."""
        return int(self.matrices.any((1, 2, 3)).sum())

    def matrix(self, sweeps: slice | np.ndarray = slice(None), *, visible: bool | None = None) -> np.ndarray:
        """Sum of the confusion matrices, (C, C + 1): over all points, or only those a camera sees or does not see."""
        groups = slice(None) if visible is None else slice(int(visible), int(visible) + 1)
        return self.matrices[sweeps, groups].sum((0, 1))

    def miou(self, sweeps: slice | np.ndarray = slice(None), *, visible: bool | None = None) -> float:
        """mIoU in per cent of `matrix(sweeps, visible=visible)`."""
        return mean_iou(self.matrix(sweeps, visible=visible))

    def worst_class(self, reference: Result | None) -> dict[str, str | float] | None:
        """Class and change of `metrics.worst_class` against another run on the same points.

        None if the reference is None or this run, or there is no truth.
        """
        if reference is None or reference is self:
            return None
        found = worst_class(self.matrix(), reference.matrix())
        return None if found is None else {"class": self.class_names[found[0]], "change": _rounded(found[1])}

    @property
    def drive_lengths(self) -> tuple[int, ...]:
        return self.lengths or (self.sweeps,)

    @property
    def second_half(self) -> np.ndarray:
        """(S,) bool: whether a sweep is in the second half of its drive."""
        return np.concatenate([np.arange(length) >= length // 2 for length in self.drive_lengths])

    def curve(self, window: int) -> np.ndarray:
        """(S,) mIoU in per cent over the `window` sweeps ending at each sweep, within its drive."""
        parts = np.split(self.matrices.sum(1), np.cumsum(self.drive_lengths)[:-1])
        return np.concatenate([windowed_mean_iou(part, window) for part in parts])

    def summary(self) -> dict:
        """Reproducible values for a JSON file, shares in per cent; None if a value was not measured."""
        iou = 100.0 * class_iou(self.matrix())
        return {
            "method": self.name,
            "run": self.title,
            "settings": self.settings,
            "sweeps": self.sweeps,
            "sweeps_with_truth": self.sweeps_with_truth,
            "miou": _rounded(self.miou()),
            "miou_second_half": _rounded(self.miou(self.second_half)),
            "miou_visible": _rounded(self.miou(visible=True)),
            "miou_not_visible": _rounded(self.miou(visible=False)),
            "miou_over_time": {"window": WINDOW, "miou": [_rounded(value) for value in self._windows()]},
            "iou": {name: _rounded(value) for name, value in zip(self.class_names, iou, strict=True)},
            "calibration_error": _rounded(calibration_error(self.calibration)),
            "agreement": None if self.agreement is None else _share(*self.agreement.sum(0)),
            "predicted": self._predicted(),
            "loss": _rounded(np.mean([loss for _, loss in self.losses]) if self.losses else np.nan),
            "steps_tried": self.steps_tried,
            "steps_accepted": self.steps_accepted,
            "rejections": self.rejections,
            "problems": list(self.problems),
        } | ({} if self.delivery is None else asdict(self.delivery))

    def _windows(self) -> np.ndarray:
        """mIoU of each drive's complete windows; a drive shorter than a window is one."""
        numbers = np.concatenate([np.arange(1, length + 1) for length in self.drive_lengths])
        last = np.repeat(self.drive_lengths, self.drive_lengths)
        return self.curve(WINDOW)[(numbers % WINDOW == 0) | ((last < WINDOW) & (numbers == last))]

    def _predicted(self) -> dict[str, float | None] | None:
        if self.predicted is None:
            return None
        counts = self.predicted.sum(0)
        names = (*self.class_names, "unlabelled")
        return {name: _share(count, counts.sum()) for name, count in zip(names, counts, strict=True)}


def frozen_run(results: Sequence[Result]) -> Result | None:
    """Return the frozen student's result, if there is one."""
    return next((result for result in results if result.name == FROZEN), None)


def joined(results: Sequence[Result]) -> Result:
    """Join the results of one run on several drives."""

    def concatenated(name: str) -> np.ndarray | None:
        parts = [getattr(result, name) for result in results]
        return None if any(part is None for part in parts) else np.concatenate(parts)

    times = (np.concatenate([getattr(result.timing, name) for result in results]) for name in ("predictions", "steps"))
    return replace(
        results[0],
        stamps=concatenated("stamps"),
        matrices=concatenated("matrices"),
        steps_tried=sum(result.steps_tried for result in results),
        steps_accepted=sum(result.steps_accepted for result in results),
        rejections=dict(sum((Counter(result.rejections) for result in results), Counter())),
        losses=sum((result.losses for result in results), ()),
        predicted=concatenated("predicted"),
        agreement=concatenated("agreement"),
        calibration=sum(result.calibration for result in results),
        samples={},
        lengths=sum((result.drive_lengths for result in results), ()),
        timing=Timing(*times),
        delivery=None,
        problems=tuple(dict.fromkeys(problem for result in results for problem in result.problems)),
    )


def _share(part: int, whole: int) -> float | None:
    return _rounded(100.0 * part / whole) if whole else None


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
