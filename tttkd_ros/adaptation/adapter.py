"""The interface of every method of test-time adaptation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.weights import Weights

NAN = float("nan")


@dataclass(frozen=True)
class StepReport:
    """The result of one attempt to adapt.

    Args:
        stamp: of the sweep, nanoseconds.
        version: of the weights to publish after the attempt.
        accepted: whether the step was taken and kept.
        reason: why it was not accepted; empty if it was.
        loss: of the last gradient step, before its update. NaN if none was computed.
        cosine: mean cosine similarity to the teacher, of the same step.
        points: points in view of a camera.
        steps: gradient steps taken.
        learning_rate: of the settings, or the method's own.
        stride: of the settings that came with the frame.
        seconds: wall-clock time of the attempt.
        cameras: names of the cameras whose images were used.
        ages: stamp of each of these images minus that of the sweep, seconds.
        alignment: of the sweep before the step (guard.py).
        gradient_norm: of the last gradient step.
        bn_updated: the BatchNorm statistics were updated and kept, whether the step was accepted or not.
        paused: the guard observes only, until the evidence is good again.
        skipped: nothing is wrong, but no step is needed.
        distrusted: the guard rejected the last images that it checked, so none should be injected.
    """

    stamp: int
    version: int
    accepted: bool
    reason: str = ""
    loss: float = NAN
    cosine: float = NAN
    points: int = 0
    steps: int = 0
    learning_rate: float = NAN
    stride: int = 0
    seconds: float = 0.0
    cameras: tuple[str, ...] = ()
    ages: tuple[float, ...] = ()
    alignment: float = NAN
    gradient_norm: float = NAN
    bn_updated: bool = False
    paused: bool = False
    skipped: bool = False
    distrusted: bool = False

    @property
    def outcome(self) -> str:
        """Return "accepted", "skipped" or "rejected"."""
        return "accepted" if self.accepted else "skipped" if self.skipped else "rejected"


class Adapter(Protocol):
    """One method with its private copy of a student. One thread uses it."""

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        """Adapt to a frame.

        A rejected step restores the weights. It may keep updated BatchNorm statistics; the version tells whether there
        is anything to publish.
        """

    def weights(self) -> Weights:
        """Return a copy of the tensors to publish."""

    def load_weights(self, weights: Weights) -> None:
        """Continue from these weights and their version. Version 0 restarts, random state included."""

    def close(self) -> None:
        """End threads and processes."""


class AdapterDied(RuntimeError):
    """The process of an adapter has ended. A new adapter can take its place."""
