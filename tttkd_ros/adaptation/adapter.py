"""What every method of test-time adaptation offers, and what it hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.weights import Weights

_NAN = float("nan")


@dataclass(frozen=True)
class StepReport:
    """What became of one attempt to adapt.

    stamp: of the sweep, nanoseconds. version: of the weights to publish after the attempt. reason: why not, empty if
    accepted. loss and cosine: of the last gradient step, before its update (NaN if none was computed). points: in view
    of a camera. steps: gradient steps taken. stride: in force. seconds: wall clock. cameras: whose images were used;
    ages: of those images, their stamp minus the sweep's, seconds. alignment and held_out (a cosine): of points that
    were not trained on, before the step. gradient_norm: of the last gradient step. rolled_back: earlier steps were
    undone, or the last few averaged. followed: BatchNorm's statistics went towards the sweep's, accepted or not, and
    stay there. paused: the guard only looks on until the evidence is good again. skipped: nothing is wrong, but enough
    was learnt from this scene.
    """

    stamp: int
    version: int
    accepted: bool
    reason: str = ""
    loss: float = _NAN
    cosine: float = _NAN
    points: int = 0
    steps: int = 0
    learning_rate: float = _NAN
    stride: int = 0
    seconds: float = 0.0
    cameras: tuple[str, ...] = ()
    ages: tuple[float, ...] = ()
    alignment: float = _NAN
    held_out: float = _NAN
    gradient_norm: float = _NAN
    rolled_back: bool = False
    followed: bool = False
    paused: bool = False
    skipped: bool = False

    @property
    def outcome(self) -> str:
        """"accepted", "skipped" or "rejected"."""
        return "accepted" if self.accepted else "skipped" if self.skipped else "rejected"


class Adapter(Protocol):
    """One method at work on its private copy of a student; used by one thread."""

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        """Adapt to a frame. What is not accepted changes no weights, unless to undo earlier steps, but perhaps
        BatchNorm's statistics: see `version`."""

    def weights(self) -> Weights:
        """A copy of the adapted tensors."""

    def load_weights(self, weights: Weights) -> None:
        """Go on from these weights and their version. Version 0 is a new beginning, random state included."""

    def close(self) -> None:
        """Let go of threads and processes."""


class AdapterDied(RuntimeError):
    """An adapter is gone for good, and what it knew with it; a new one can take its place."""
