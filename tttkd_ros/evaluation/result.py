"""What a run over a drive left behind: counts for every sweep, and all figures that derive from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.diagnosis import StepOutcome, kind_of
from tttkd_ros.evaluation.metrics import BINS, calibration_error, class_iou, mean_iou, windowed_mean_iou

WINDOW = 50  # sweeps behind each value of a summary's mIoU over time
# What tells one run from another in a title, and what it is called there; but not where it is as usual.
TITLED = {"stride": "stride", "learning_rate": "lr", "bn_momentum": "bn", "steps": "steps", "images": "images",
          "control": "", "shift_z": "z shift"}
USUAL = {"steps": 1, "bn_momentum": TTTConfig.bn_momentum}

Settings = Mapping[str, "float | int | str | None"]


def count_rejections(steps: Iterable[StepOutcome]) -> dict[str, int]:
    """Kind of reason -> how many were not accepted for it."""
    return dict(Counter(kind_of(step.reason) for step in steps if not step.accepted))


def title(name: str, settings: Settings) -> str:
    """The method with those of its settings that tell one run from another: "ttt-kd-o, stride 5, lr 0.1"."""
    parts = [name]
    for key, label in TITLED.items():
        value = settings.get(key)
        if value is not None and value != USUAL.get(key):
            parts.append(f"{label} {value}".strip())
    return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Timing:
    """Seconds on the wall: predictions (S,), each from points to labels; steps (K,), each attempt to adapt.

    Never the same twice, and so no part of a result's summary or file.
    """

    predictions: np.ndarray
    steps: np.ndarray

    def summary(self) -> dict:
        """predictions_per_second: predictions and steps taking turns, as in the paper. latency_ms: of predictions."""
        total = self.predictions.sum() + self.steps.sum() if len(self.predictions) else 0
        percentiles = np.percentile(1e3 * self.predictions, (50, 95, 99)) if len(self.predictions) else [np.nan] * 3
        return {
            "predictions_per_second": _rounded(len(self.predictions) / total if total else np.nan),
            "latency_ms": dict(zip(("p50", "p95", "p99"), map(_rounded, percentiles), strict=True)),
            "seconds_per_step": _rounded(self.steps.mean() if len(self.steps) else np.nan),
        }


@dataclass(frozen=True)
class Delivery:
    """How a live node's answers came back. received: of the sweeps sent, the answered ones. in_order: stamps rise.
    intact: every answer has its sweep's frame and points."""

    sent: int
    received: int
    in_order: bool
    intact: bool

    @property
    def complete(self) -> bool:
        return self.sent == self.received and self.in_order and self.intact

    def summary(self) -> dict:
        return {"sweeps_sent": self.sent, "sweeps_received": self.received, "in_order": self.in_order,
                "points_and_frames_intact": self.intact}


@dataclass(frozen=True, eq=False)
class Result:
    """One method's run over one drive, or over several one after the other.

    stamps: (S,) int64 nanoseconds. matrices: (S, 2, C, C + 1) int64, rows truth, the last column answers withheld;
    index 0 of the second axis holds the points that no camera saw, index 1 those that one did; zeros without truth.
    steps_tried, steps_accepted: adaptation jobs. rejections: kind of reason -> count. losses: (stamp, loss) of the
    accepted steps, of methods that have a loss.

    predicted: (S, C + 1) int64, points by answer, the last column withheld. agreement: (S, 2) int64, points that are
    answered as by the frozen student, and points; None where that is not known. calibration: (BINS, 3), see
    `metrics.calibration`. samples: stamp -> labels (N,) uint8 of a few sweeps, for pictures. lengths: sweeps of each
    drive; () for one. delivery: of a live run. problems: what kept (nearly) all steps or labels back, a line each.
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
    timing: Timing | None = None
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
        """Sweeps of which at least one point has a class."""
        return int(self.matrices.any((1, 2, 3)).sum())

    def matrix(self, sweeps: slice | np.ndarray = slice(None), *, visible: bool | None = None) -> np.ndarray:
        """One (C, C + 1) matrix over `sweeps`: of all points, or of those a camera saw or did not see."""
        groups = slice(None) if visible is None else slice(int(visible), int(visible) + 1)
        return self.matrices[sweeps, groups].sum((0, 1))

    def miou(self, sweeps: slice | np.ndarray = slice(None), *, visible: bool | None = None) -> float:
        """mIoU in per cent of `matrix(sweeps, visible=visible)`."""
        return mean_iou(self.matrix(sweeps, visible=visible))

    @property
    def second_half(self) -> np.ndarray:
        """(S,) bool: the sweeps of each drive's second half."""
        return np.concatenate([np.arange(length) >= length // 2 for length in self.lengths or (self.sweeps,)])

    def curve(self, window: int) -> np.ndarray:
        """(S,) mIoU in per cent over the `window` sweeps ending at each sweep, of its drive alone."""
        ends = np.cumsum(self.lengths or (self.sweeps,))[:-1]
        return np.concatenate([windowed_mean_iou(part, window) for part in np.split(self.matrices.sum(1), ends)])

    def summary(self) -> dict:
        """Plain, reproducible values for a JSON file; shares in per cent, None for what could not be measured."""
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
        } | ({} if self.delivery is None else self.delivery.summary())

    def _windows(self) -> np.ndarray:
        """Of the whole windows of each drive, one after the other; a drive shorter than one is one."""
        numbers = np.concatenate([np.arange(1, length + 1) for length in self.lengths or (self.sweeps,)])
        last = np.concatenate([np.full(length, length) for length in self.lengths or (self.sweeps,)])
        return self.curve(WINDOW)[(numbers % WINDOW == 0) | ((last < WINDOW) & (numbers == last))]

    def _predicted(self) -> dict[str, float | None] | None:
        if self.predicted is None:
            return None
        counts = self.predicted.sum(0)
        names = (*self.class_names, "unlabelled")
        return {name: _share(count, counts.sum()) for name, count in zip(names, counts, strict=True)}


def joined(results: Sequence[Result]) -> Result:
    """One method's results on several drives as one. ValueError where they are of different methods or settings."""
    first = results[0]
    if other := [result.title for result in results if result.title != first.title]:
        raise ValueError(f"results of {first.title} and {other[0]} cannot be joined: they are of different runs")
    agreement = [result.agreement for result in results]
    predicted = [result.predicted for result in results]
    timings = [result.timing for result in results]
    return Result(
        name=first.name,
        class_names=first.class_names,
        stamps=np.concatenate([result.stamps for result in results]),
        matrices=np.concatenate([result.matrices for result in results]),
        settings=first.settings,
        steps_tried=sum(result.steps_tried for result in results),
        steps_accepted=sum(result.steps_accepted for result in results),
        rejections=dict(sum((Counter(result.rejections) for result in results), Counter())),
        losses=tuple(loss for result in results for loss in result.losses),
        predicted=None if any(part is None for part in predicted) else np.concatenate(predicted),
        agreement=None if any(part is None for part in agreement) else np.concatenate(agreement),
        calibration=sum(result.calibration for result in results),
        lengths=tuple(length for result in results for length in result.lengths or (result.sweeps,)),
        problems=tuple(dict.fromkeys(problem for result in results for problem in result.problems)),
        timing=None if any(part is None for part in timings) else Timing(
            np.concatenate([part.predictions for part in timings]), np.concatenate([part.steps for part in timings])
        ),
    )


def _share(part: int, whole: int) -> float | None:
    return _rounded(100.0 * part / whole) if whole else None


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
